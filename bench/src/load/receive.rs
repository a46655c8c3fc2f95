//! Connects clients, a few at a time, and reconnects them when the server has ended their streams
//! as expected.

use super::client::{Client, Opening};
use super::publisher::Publisher;
use super::{seconds_since, tell, watch, Load, PUBLISHERS};
use crate::clock::nanos;
use crate::socket::{dial, send_waiting, Buffer};
use rustix::event::epoll::{self, EventData, EventFlags};
use serde_json::json;

impl Load {
    /// Opens all streams and the connections for publishing.
    pub fn connect(&mut self) -> Result<(), String> {
        let since = nanos();
        self.until(|load| Ok(load.open + load.refused == load.config.clients))?;
        self.refused = self.config.clients - self.open;
        let seconds = seconds_since(since);
        for index in 0..self.config.publishers() {
            let publisher = Publisher::connect(&self.form)?;
            watch(&self.epoll, publisher.fd(), PUBLISHERS + index as u64)?;
            self.publishers.push(publisher);
        }
        tell(json!({
            "at": "connected", "clients": self.open, "refused": self.refused, "seconds": seconds,
        }));
        Ok(())
    }

    /// Waits until the server has ended all streams and all have been opened again.
    pub fn return_after_reload(&mut self) -> Result<(), String> {
        let (since, clients) = (nanos(), self.open);
        self.reloading = true;
        self.until(|load| Ok(load.ended >= clients && load.open == clients))?;
        let seconds = seconds_since(since);
        let away = clients - self.open.min(self.ended).min(clients);
        tell(json!({ "at": "returned", "clients": self.open, "away": away, "seconds": seconds }));
        Ok(())
    }

    /// Starts to connect waiting clients, as many as may connect at the same time.
    pub fn dial_waiting(&mut self) -> Result<(), String> {
        while self.dialing < self.config.dialing {
            let Some(number) = self.waiting.pop_front() else { break };
            self.dial(number)?;
        }
        Ok(())
    }

    fn dial(&mut self, number: usize) -> Result<(), String> {
        let silent = self.config.is_silent(number);
        let buffer = if silent { Buffer::Small } else { Buffer::Ordinary };
        let fd = dial(self.config.to, self.config.first + number, buffer)
            .map_err(|error| format!("client {number}: {error}"))?;
        epoll::add(&self.epoll, &fd, EventData::new_u64(number as u64), EventFlags::OUT)
            .map_err(|error| format!("client {number}: {error}"))?;
        if let Some(client) = self.clients.get_mut(number) {
            *client = Client::Dialing(fd);
        }
        self.dialing += 1;
        Ok(())
    }

    /// Sends the request of a client whose connection is established, or handles its failure.
    pub fn ask(&mut self, number: usize) {
        let Some(client) = self.clients.get_mut(number) else { return };
        let Client::Dialing(fd) = std::mem::replace(client, Client::Closed) else { return };
        let path = self.config.stream.replace("%d", &self.config.channel_of(number).to_string());
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n\r\n",
            self.config.host
        );
        let data = EventData::new_u64(number as u64);
        let asked = send_waiting(&fd, request.as_bytes())
            .and_then(|()| epoll::modify(&self.epoll, &fd, data, EventFlags::IN));
        match asked {
            Ok(()) => *client = Client::Asked(fd, Vec::new()),
            Err(_) => self.turned_away(number),
        }
    }

    /// Reads the response header, or part of it.
    pub fn read_head(&mut self, number: usize) -> Result<(), String> {
        let channel = self.config.channel_of(number);
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        match client.answer(&mut self.buffer, |_, _| ()) {
            Opening::NotYet => return Ok(()),
            Opening::Refused => {
                *client = Client::Closed;
                self.turned_away(number);
                return Ok(());
            }
            Opening::Open if self.config.is_silent(number) => {
                if let Some(fd) = client.fd() {
                    epoll::delete(&self.epoll, fd).map_err(|error| error.to_string())?;
                }
                client.silence();
            }
            Opening::Open => self.check.opened(number, channel),
        }
        self.open += 1;
        self.dialing -= 1;
        Ok(())
    }

    /// Handles a client whose request was rejected. If streams are being reopened, it tries again.
    fn turned_away(&mut self, number: usize) {
        self.dialing -= 1;
        if self.reloading {
            self.waiting.push_back(number);
        } else {
            self.refused += 1;
        }
    }

    /// Handles the end of a stream by the server.
    pub fn stream_ended(&mut self, number: usize) {
        if let Some(client) = self.clients.get_mut(number) {
            *client = Client::Closed;
        }
        self.check.ended(number);
        self.open -= 1;
        if self.reloading {
            self.ended += 1;
            self.waiting.push_back(number);
        } else {
            self.check.errors.ended += 1;
        }
    }
}
