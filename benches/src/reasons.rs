//! Why targets are missed, and what was tried: what the report says beside those that are.

use crate::targets::Target;

/// What the report says where nothing is recorded.
pub const NONE: &str = "no reason recorded";

/// Why some targets are missed.
#[derive(Clone, Copy, Debug)]
pub struct Reason {
    /// The targets: their cells, and what they say.
    pub targets: &'static [(&'static str, &'static str)],
    /// Why they are missed.
    pub why: &'static str,
    /// What was tried.
    pub tried: &'static str,
}

/// The reason that is recorded for a target, whether or not it is missed.
#[must_use]
pub fn of(target: &Target) -> Option<&'static Reason> {
    REASONS.iter().find(|reason| reason.targets.contains(&(target.cell(), target.text)))
}

/// All that are recorded.
pub const REASONS: &[Reason] = &[
    Reason {
        targets: &[("round-trip-8", "mean <= 1.1 R")],
        why: "R is one line that goes back and forth. A pair of rings has a line for each direction, and the floor of \
              two lines is 1.3 R here (*The machine during the run*).",
        tried: "To fetch the slot ahead while the ring is empty, and to own the next slot ahead: no change.",
    },
    Reason {
        targets: &[("single-8", ">= 1.8 x rtrb"), ("single-8", ">= 1.5 x rtrb")],
        why: "Both move a message in 1.3 ns, the chain of load, add and store of the position itself. The ratio is what \
              rtrb does: 531 to 752 M/s from run to run.",
        tried: "Nothing that is recorded. Batches are cells of their own.",
    },
    Reason {
        targets: &[("single-1024", ">= 3 x rtrb"), ("single-1024", ">= 1.5 x rtrb")],
        why: "57 GB/s: two copies of the payload through the second-level caches are all of it.",
        tried: "Vector moves of 64 bytes: 5 to 8 % more, not worth a third copy routine.",
    },
    Reason {
        targets: &[("one-way-8", "p50 <= 1.1 x rtrb"), ("one-way-64", "p50 <= 1.1 x rtrb")],
        why: "10 to 20 ns are left. Most of the 1.44 x of earlier records was the clock, which did not wait for the \
              message's own load.",
        tried: "Without the touch of consumed lines (*touch off*) it takes as long.",
    },
    Reason {
        targets: &[("one-way-8", "p99 <= 2 x plain"), ("one-way-64", "p99 <= 2 x plain")],
        why: "Not known. The ratio of single rounds goes from below 0.001 to above 1000, so that interruptions of the virtual \
              machine are likely: at 1 µs from message to message, one of some 400 µs is a hundredth of a window.",
        tried: "Samples whose sides had to share their core are dropped; what the hypervisor takes is not seen.",
    },
    Reason {
        targets: &[
            ("mpsc-1-1024", "lanes >= 1.3 x an Aeron-style ring"),
            ("mpsc-2-1024", "lanes >= 1.3 x an Aeron-style ring"),
            ("mpsc-4-1024", "lanes >= 1.3 x an Aeron-style ring"),
        ],
        why: "57 GB/s: the copies of the payload, which the other one makes, too.",
        tried: "As for the ring: vector moves of 64 bytes, 5 to 8 % more.",
    },
    Reason {
        targets: &[("mpsc-one-way-64", "lanes p50 <= 0.75 x ArrayQueue")],
        why: "A message that nobody is ahead of still takes one pass more over the lanes than a ring needs.",
        tried: "It was 1.0 x: such messages went through two passes and a release that was not due.",
    },
    Reason {
        targets: &[
            ("mpsc-1-8", "ordered >= 2 x ArrayQueue"),
            ("mpsc-2-8", "ordered >= 2 x ArrayQueue"),
            ("mpsc-4-8", "ordered >= 2 x ArrayQueue"),
        ],
        why: "A push is one compare-exchange, 6 ns here, half of what ArrayQueue needs for everything.",
        tried: "A consumer that keeps a distance, order words that are touched like slots, and a pop whose two counters \
                are not loaded over two pending stores: together from 42 to 94 M/s with one producer.",
    },
    Reason {
        targets: &[("cell-full-64", "reads/s >= 20 x seqlock"), ("cell-full-256", "reads/s >= 20 x seqlock")],
        why: "Out of reach here: a copy without any protocol, which may be torn (*memcpy*), reads 64 bytes 4 to 11 x as \
              often as that crate.",
        tried: "Met from 1 KiB on, by far; below, the transfer of the lines is all there is.",
    },
    Reason {
        targets: &[("cell-full-64", "reads/s >= 0.9 x triple_buffer")],
        why: "triple_buffer has one reader and hands it a value that nobody writes to meanwhile; ours has many, and some \
              reads of 64 bytes are made twice. It is 0.79 to 1.05 from round to round, and was 1.01 the day before.",
        tried: "Nothing since it was met.",
    },
    Reason {
        targets: &[
            ("cell-full-64", "retries per read <= 0.001"),
            ("cell-full-256", "retries per read <= 0.001"),
        ],
        why: "The writer goes round its 8 slots in 75 ns, as long as a reader needs for two transfers of lines.",
        tried: "More slots are an option of the cell. A repeated read costs one transfer more, and of 256 bytes \
                there are more of them a second than of triple_buffer's.",
    },
    Reason {
        targets: &[
            ("message-rate-64", "one sender <= 1.15 x the raw ring's time"),
            ("message-rate-64", "lanes <= 1.15 x the raw lanes' time"),
        ],
        why: "Each call looks at the mark of forks, the peer's state, its bell and the hands that are out. Two to three \
              nanoseconds, which at this rate is a good part of a message.",
        tried: "The hot path, which was called in closures, is in line: from 125 to 140 M/s with lanes, from 167 to 212 \
                with one sender. Then what fails was put out of line, and bells and hands are one load: 207 and 288.",
    },
    Reason {
        targets: &[
            ("message-trip-64", "one sender <= 1.15 x the raw ring"),
            ("message-trip-64", "lanes <= 1.15 x the raw lanes"),
        ],
        why: "20 ns for each way, which were not taken apart: the calls look at more than those of a ring, and whoever \
              finds nothing goes round the same looks again.",
        tried: "As without a pause: with lanes from 167 to 159 ns a trip, with one sender from 151 to 150.",
    },
    Reason {
        targets: &[
            ("message-rate-64", "lanes <= 1.15 x the raw ring's time"),
            ("message-trip-64", "lanes <= 1.15 x the raw ring"),
        ],
        why: "Lanes are what many senders need; the raw lanes, without a message layer, are 1.4 to 1.6 x the raw ring's \
              time already. Who has one sender can say so, and is compared above.",
        tried: "As for one sender.",
    },
    Reason {
        targets: &[
            ("message-request-8", "<= 1.3 x two one-way trips"),
            ("message-request-64", "<= 1.3 x two one-way trips"),
        ],
        why: "A call carries a head that matches it with its reply, and the answer takes the client's lock in the \
              server.",
        tried: "Nothing that is recorded.",
    },
    Reason {
        targets: &[("message-calls-64", "sleeping <= 100 calls per million")],
        why: "With both awake there are next to none (*spinning*). A receiver that may sleep does where it finds nothing \
              for 10 µs, which happens here.",
        tried: "Nothing that is recorded.",
    },
    Reason {
        targets: &[("round-trip-64", "mean below rtrb in threads")],
        why: "In this run the cores were near in five rounds only, and the ratio was anything from 0.91 to 1.42. The \
              record of the day before, of the same ring, has it met.",
        tried: "Nothing: the spread is larger than the difference.",
    },
    Reason { targets: &[("message-set-up-64", "p50 <= 200 µs")], why: SET_UP_WHY, tried: SET_UP_TRIED },
    Reason {
        targets: &[("build-cold", "<= 15 s")],
        why: "The message layer is the last in a chain of packages, and takes half of the time: what it is built from is \
              generic, and compiled there.",
        tried: "Four codegen units for that package, so that both processors have something to do: 17.0 s where one unit took \
                19.7 and 21.0 s in the same minutes. With 16: 17.9 s; with 8 for the system calls' package, too: 17.4 s. \
                Fewer line tables save nothing.",
    },
];

const SET_UP_WHY: &str = "The kernel fills every page when the memory is reserved, about 1 µs for each of them, so that there is \
                          never a bus error later. Lanes for four senders have 192 KiB more than the ring of one, which \
                          is within the target in the same run.";
const SET_UP_TRIED: &str =
    "Seven system calls fewer for each creation. To reserve less would be to promise less.";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cells::Group;
    use crate::targets;

    #[test]
    fn each_reason_is_of_a_target_that_there_is() {
        let all: Vec<&Target> = Group::ALL.into_iter().flat_map(targets::of).collect();
        for (cell, text) in REASONS.iter().flat_map(|reason| reason.targets) {
            let found = all.iter().any(|target| (target.cell(), target.text) == (*cell, *text));
            assert!(found, "{cell}: expected the target \"{text}\", found none");
        }
    }

    #[test]
    fn a_target_has_one_reason() {
        let mut seen = BTreeSet::new();
        for target in REASONS.iter().flat_map(|reason| reason.targets) {
            assert!(seen.insert(target), "{target:?} has two");
        }
        assert!(REASONS.iter().all(|reason| !reason.why.is_empty() && !reason.tried.is_empty()));
    }

    #[test]
    fn a_cell_says_a_thing_once() {
        let mut seen = BTreeSet::new();
        for target in Group::ALL.into_iter().flat_map(targets::of) {
            let new = seen.insert((target.cell(), target.text));
            assert!(new, "{}: two targets say \"{}\"", target.cell(), target.text);
        }
    }
}
