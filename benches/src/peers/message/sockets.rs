//! Unix sockets: a stream with messages of a length that both sides know, and datagrams.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use anyhow::ensure;
use bytemuck::{bytes_of, bytes_of_mut};

use crate::message::contender::{Client, Layer, MessageRx, MessageTx, Requests, Server};
use crate::message::place::Link;

/// A stream, and also requests and replies on one.
#[derive(Debug)]
pub enum Stream {}

fn accept(link: &Link<'_>) -> anyhow::Result<UnixStream> {
    let listener = UnixListener::bind(link.path())?;
    link.made();
    Ok(listener.accept()?.0)
}

fn connect(link: &Link<'_>) -> anyhow::Result<UnixStream> {
    link.await_made();
    Ok(UnixStream::connect(link.path())?)
}

impl Layer for Stream {
    const NAME: &'static str = "Unix stream";
    const SLEEPS: bool = true;
    type Tx<const W: usize> = UnixStream;
    type Rx<const W: usize> = UnixStream;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<UnixStream> {
        connect(link)
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<UnixStream> {
        accept(link)
    }
}

impl<const W: usize> MessageTx<W> for UnixStream {
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        Ok(self.write_all(bytes_of(message))?)
    }
}

impl<const W: usize> MessageRx<W> for UnixStream {
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        self.read_exact(bytes_of_mut(buffer))?;
        read(buffer);
        Ok(true)
    }
}

impl Requests for Stream {
    const NAME: &'static str = "Unix stream";
    type Client<const W: usize> = UnixStream;
    type Server<const W: usize> = UnixStream;

    fn client<const W: usize>(link: &Link<'_>) -> anyhow::Result<UnixStream> {
        connect(link)
    }

    fn server<const W: usize>(link: &Link<'_>) -> anyhow::Result<UnixStream> {
        accept(link)
    }
}

impl<const W: usize> Client<W> for UnixStream {
    fn call(&mut self, request: &[u64; W], reply: &mut [u64; W]) -> anyhow::Result<()> {
        self.write_all(bytes_of(request))?;
        Ok(self.read_exact(bytes_of_mut(reply))?)
    }
}

impl<const W: usize> Server<W> for UnixStream {
    fn serve(&mut self, answer: impl FnOnce(&[u64; W]) -> [u64; W]) -> anyhow::Result<bool> {
        let mut request = [0; W];
        self.read_exact(bytes_of_mut(&mut request))?;
        self.write_all(bytes_of(&answer(&request)))?;
        Ok(true)
    }
}

/// Datagrams: the kernel keeps the messages apart, and the sender waits while the receiver's queue is full.
#[derive(Debug)]
pub enum Datagram {}

impl Layer for Datagram {
    const NAME: &'static str = "Unix datagram";
    const SLEEPS: bool = true;
    type Tx<const W: usize> = UnixDatagram;
    type Rx<const W: usize> = UnixDatagram;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        link.await_made();
        socket.connect(link.path())?;
        Ok(socket)
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<UnixDatagram> {
        let socket = UnixDatagram::bind(link.path())?;
        link.made();
        Ok(socket)
    }
}

impl<const W: usize> MessageTx<W> for UnixDatagram {
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        let message = bytes_of(message);
        let sent = loop {
            match UnixDatagram::send(self, message) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        ensure!(sent == message.len(), "expected to send {} bytes, sent {sent}", message.len());
        Ok(())
    }
}

impl<const W: usize> MessageRx<W> for UnixDatagram {
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        let bytes = bytes_of_mut(buffer);
        let received = loop {
            match self.recv(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        ensure!(received == bytes.len(), "expected a message of {} bytes, found {received}", bytes.len());
        read(buffer);
        Ok(true)
    }
}
