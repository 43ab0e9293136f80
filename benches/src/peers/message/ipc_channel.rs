//! ipc-channel: typed messages through a serialiser, or bytes. The channel is made by the sender and sent to the
//! receiver through a one-shot server, whose name the two agree on.

use anyhow::{Context as _, anyhow, ensure};
use bytemuck::{bytes_of, bytes_of_mut};
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcReceiver, IpcSender};
use serde::{Deserialize, Serialize};

use crate::message::contender::{Client, Layer, MessageRx, MessageTx, Requests, Server};
use crate::message::place::Link;

/// Messages as values that are serialised.
#[derive(Debug)]
pub enum Typed {}

/// Messages as bytes.
#[derive(Debug)]
pub enum Bytes {}

/// Requests that carry the channel for their reply.
#[derive(Debug)]
pub enum ReplySender {}

/// A typed message.
#[derive(Debug, Serialize, Deserialize)]
pub struct Words(Vec<u64>);

/// A request: a message, and where the reply goes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    message: Words,
    reply: IpcSender<Words>,
}

impl Words {
    fn copy_to<const W: usize>(&self, to: &mut [u64; W]) -> anyhow::Result<()> {
        ensure!(self.0.len() == W, "expected {W} words, found {}", self.0.len());
        to.copy_from_slice(&self.0);
        Ok(())
    }
}

/// Sends one end of a channel to the other process.
fn hand_over<T: Serialize>(link: &Link<'_>, end: T) -> anyhow::Result<()> {
    IpcSender::connect(link.await_name())?.send(end).map_err(|error| anyhow!("hand a channel over: {error}"))
}

/// Takes one end of a channel from the other process.
fn take_over<T: Serialize + for<'de> Deserialize<'de>>(link: &Link<'_>) -> anyhow::Result<T> {
    let (server, name) = IpcOneShotServer::new().context("make a one-shot server")?;
    link.made_as(&name)?;
    let (_, end) = server.accept().map_err(|error| anyhow!("take a channel over: {error}"))?;
    Ok(end)
}

impl Layer for Typed {
    const NAME: &'static str = "ipc-channel, typed";
    const SLEEPS: bool = true;
    type Tx<const W: usize> = IpcSender<Words>;
    type Rx<const W: usize> = IpcReceiver<Words>;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<IpcSender<Words>> {
        let (tx, rx) = ipc::channel().context("make a channel")?;
        hand_over(link, rx)?;
        Ok(tx)
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<IpcReceiver<Words>> {
        take_over(link)
    }
}

impl<const W: usize> MessageTx<W> for IpcSender<Words> {
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        Ok(IpcSender::send(self, Words(message.to_vec()))?)
    }
}

impl<const W: usize> MessageRx<W> for IpcReceiver<Words> {
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        self.recv()?.copy_to(buffer)?;
        read(buffer);
        Ok(true)
    }
}

impl Layer for Bytes {
    const NAME: &'static str = "ipc-channel, bytes";
    const SLEEPS: bool = true;
    type Tx<const W: usize> = IpcBytesSender;
    type Rx<const W: usize> = IpcBytesReceiver;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<IpcBytesSender> {
        let (tx, rx) = ipc::bytes_channel().context("make a channel")?;
        hand_over(link, rx)?;
        Ok(tx)
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<IpcBytesReceiver> {
        take_over(link)
    }
}

impl<const W: usize> MessageTx<W> for IpcBytesSender {
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        Ok(IpcBytesSender::send(self, bytes_of(message))?)
    }
}

impl<const W: usize> MessageRx<W> for IpcBytesReceiver {
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        let (message, to) = (self.recv()?, bytes_of_mut(buffer));
        ensure!(message.len() == to.len(), "expected {} bytes, found {}", to.len(), message.len());
        to.copy_from_slice(&message);
        read(buffer);
        Ok(true)
    }
}

impl Requests for ReplySender {
    const NAME: &'static str = "ipc-channel, typed";
    type Client<const W: usize> = IpcSender<Request>;
    type Server<const W: usize> = IpcReceiver<Request>;

    fn client<const W: usize>(link: &Link<'_>) -> anyhow::Result<IpcSender<Request>> {
        let (tx, rx) = ipc::channel().context("make a channel")?;
        hand_over(link, rx)?;
        Ok(tx)
    }

    fn server<const W: usize>(link: &Link<'_>) -> anyhow::Result<IpcReceiver<Request>> {
        take_over(link)
    }
}

impl<const W: usize> Client<W> for IpcSender<Request> {
    fn call(&mut self, request: &[u64; W], to: &mut [u64; W]) -> anyhow::Result<()> {
        let (reply, back) = ipc::channel().context("make a channel for a reply")?;
        self.send(Request { message: Words(request.to_vec()), reply })?;
        back.recv()?.copy_to(to)
    }
}

impl<const W: usize> Server<W> for IpcReceiver<Request> {
    fn serve(&mut self, answer: impl FnOnce(&[u64; W]) -> [u64; W]) -> anyhow::Result<bool> {
        let Request { message, reply } = self.recv()?;
        let mut request = [0; W];
        message.copy_to(&mut request)?;
        reply.send(Words(answer(&request).to_vec()))?;
        Ok(true)
    }
}
