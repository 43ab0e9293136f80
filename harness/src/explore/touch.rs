//! Which instructions touch the segment: the only ones at which an order of two processes can matter.

use core::ops::Range;

use iced_x86::{Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Register};

use super::report::code;

/// Whether the instruction that these registers are about to execute may touch `segment`.
///
/// Errs on the side of yes: an instruction that cannot be decoded, a string instruction, a system call, an
/// address in a segment register's memory.
pub(super) fn touches(registers: &libc::user_regs_struct, segment: &Range<usize>) -> bool {
    let bytes = code(registers.rip);
    let instruction = Decoder::with_ip(64, &bytes, registers.rip, DecoderOptions::NONE).decode();
    if instruction.is_invalid() || instruction.is_string_instruction() || is_system_call(&instruction) {
        return true;
    }
    let mut factory = InstructionInfoFactory::new();
    factory.info(&instruction).used_memory().iter().any(|memory| {
        let address = memory.virtual_address(0, |register, _, _| value(registers, register));
        let bytes = u64::try_from(memory.memory_size().size()).unwrap_or(0).max(1);
        match address {
            None => true,
            Some(address) => {
                let end = u64::try_from(segment.end).unwrap_or(u64::MAX);
                let start = u64::try_from(segment.start).unwrap_or(0);
                address < end && address.saturating_add(bytes) > start
            }
        }
    })
}

fn is_system_call(instruction: &Instruction) -> bool {
    use iced_x86::Mnemonic;
    matches!(instruction.mnemonic(), Mnemonic::Syscall | Mnemonic::Int | Mnemonic::Int3 | Mnemonic::Sysenter)
}

/// A register that addresses are made of; `None` for one that the kernel does not show here.
fn value(registers: &libc::user_regs_struct, register: Register) -> Option<u64> {
    let full = match register.full_register() {
        Register::RAX => registers.rax,
        Register::RBX => registers.rbx,
        Register::RCX => registers.rcx,
        Register::RDX => registers.rdx,
        Register::RSI => registers.rsi,
        Register::RDI => registers.rdi,
        Register::RBP => registers.rbp,
        Register::RSP => registers.rsp,
        Register::R8 => registers.r8,
        Register::R9 => registers.r9,
        Register::R10 => registers.r10,
        Register::R11 => registers.r11,
        Register::R12 => registers.r12,
        Register::R13 => registers.r13,
        Register::R14 => registers.r14,
        Register::R15 => registers.r15,
        Register::ES | Register::CS | Register::SS | Register::DS => 0,
        Register::FS => registers.fs_base,
        Register::GS => registers.gs_base,
        _ => return None,
    };
    Some(if register.size() == 4 { full & 0xffff_ffff } else { full })
}
