//! ZeroMQ over its `ipc` transport: push and pull, and request and reply.

use anyhow::ensure;
use bytemuck::{bytes_of, bytes_of_mut};
use zmq::{Context, Socket, SocketType};

use crate::message::contender::{Client, Layer, MessageRx, MessageTx, Requests, Server, capacity};
use crate::message::place::Link;

/// Push and pull.
#[derive(Debug)]
pub enum PushPull {}

/// Request and reply.
#[derive(Debug)]
pub enum RequestReply {}

/// A socket; its context goes last.
#[expect(missing_debug_implementations, reason = "the wrapped socket has none")]
pub struct End {
    socket: Socket,
    _context: Context,
}

impl End {
    fn new(kind: SocketType, words: usize) -> anyhow::Result<Self> {
        let context = Context::new();
        let socket = context.socket(kind)?;
        // Both ends have a queue.
        let messages = i32::try_from(capacity(words))?;
        socket.set_sndhwm(messages)?;
        socket.set_rcvhwm(messages)?;
        Ok(Self { socket, _context: context })
    }

    fn bound(kind: SocketType, words: usize, link: &Link<'_>) -> anyhow::Result<Self> {
        let end = Self::new(kind, words)?;
        end.socket.bind(&address(link))?;
        link.made();
        Ok(end)
    }

    fn connected(kind: SocketType, words: usize, link: &Link<'_>) -> anyhow::Result<Self> {
        link.await_made();
        let end = Self::new(kind, words)?;
        end.socket.connect(&address(link))?;
        Ok(end)
    }

    fn receive_into<const W: usize>(&self, buffer: &mut [u64; W]) -> anyhow::Result<()> {
        let to = bytes_of_mut(buffer);
        let received = self.socket.recv_into(to, 0)?;
        ensure!(received == to.len(), "expected a message of {} bytes, found {received}", to.len());
        Ok(())
    }
}

fn address(link: &Link<'_>) -> String {
    format!("ipc://{}", link.path().display())
}

impl Layer for PushPull {
    const NAME: &'static str = "ZeroMQ";
    const SLEEPS: bool = true;
    const THREADS: bool = true;
    type Tx<const W: usize> = End;
    type Rx<const W: usize> = End;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<End> {
        End::connected(zmq::PUSH, W, link)
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<End> {
        End::bound(zmq::PULL, W, link)
    }
}

impl<const W: usize> MessageTx<W> for End {
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        Ok(self.socket.send(bytes_of(message), 0)?)
    }
}

impl<const W: usize> MessageRx<W> for End {
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        self.receive_into(buffer)?;
        read(buffer);
        Ok(true)
    }
}

impl Requests for RequestReply {
    const NAME: &'static str = "ZeroMQ";
    const THREADS: bool = true;
    type Client<const W: usize> = End;
    type Server<const W: usize> = End;

    fn client<const W: usize>(link: &Link<'_>) -> anyhow::Result<End> {
        End::connected(zmq::REQ, W, link)
    }

    fn server<const W: usize>(link: &Link<'_>) -> anyhow::Result<End> {
        End::bound(zmq::REP, W, link)
    }
}

impl<const W: usize> Client<W> for End {
    fn call(&mut self, request: &[u64; W], reply: &mut [u64; W]) -> anyhow::Result<()> {
        self.socket.send(bytes_of(request), 0)?;
        self.receive_into(reply)
    }
}

impl<const W: usize> Server<W> for End {
    fn serve(&mut self, answer: impl FnOnce(&[u64; W]) -> [u64; W]) -> anyhow::Result<bool> {
        let mut request = [0; W];
        self.receive_into(&mut request)?;
        self.socket.send(bytes_of(&answer(&request)), 0)?;
        Ok(true)
    }
}
