//! Connects clients, a few at a time, and reconnects them when the server has ended their streams
//! as expected.

use super::client::{Client, Opening};
use super::config::ReturnTime;
use super::publisher::Publisher;
use super::{seconds_since, tell, watch, Load, PUBLISHERS};
use crate::clock::nanos;
use crate::socket::{dial, send_waiting, Buffer};
use rustix::event::epoll::{self, EventData, EventFlags};
use serde_json::json;
use std::cmp::Reverse;

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
    pub fn return_when_ended(&mut self) -> Result<(), String> {
        let (since, clients) = (nanos(), self.open);
        self.expects_ends = true;
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

    /// Starts to connect clients whose time to return has come. Returns the time in ns until the
    /// next one's; the maximum if there is none.
    pub fn dial_due(&mut self) -> Result<u64, String> {
        let now = nanos();
        while let Some(Reverse((due, number))) = self.away.peek().copied() {
            if due > now {
                return Ok(due - now);
            }
            self.away.pop();
            self.dial(number)?;
        }
        Ok(u64::MAX)
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
        let request =
            if self.expects_ends { &self.config.returning_request } else { &self.config.request };
        let request = request.write(&self.config.host, self.config.channel_of(number));
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
                self.turned_away(number);
                return Ok(());
            }
            Opening::Open if self.config.leaving => return Ok(()), // there is more to read
            Opening::Begun if self.config.leaving => {
                self.leave(number);
                return Ok(());
            }
            Opening::Open | Opening::Begun if self.config.is_silent(number) => {
                if let Some(fd) = client.fd() {
                    epoll::delete(&self.epoll, fd).map_err(|error| error.to_string())?;
                }
                client.silence();
            }
            Opening::Open | Opening::Begun => self.check.opened(number, channel),
        }
        self.open += 1;
        self.dialing -= 1;
        Ok(())
    }

    /// Handles a client whose request was rejected. If streams are being reopened, it tries again.
    pub fn turned_away(&mut self, number: usize) {
        if let Some(client) = self.clients.get_mut(number) {
            *client = Client::Closed;
        }
        self.dialing -= 1;
        if self.expects_ends {
            self.waiting.push_back(number);
        } else {
            self.refused += 1;
        }
    }

    /// Closes a stream whose first bytes have arrived.
    pub fn leave(&mut self, number: usize) {
        if let Some(client) = self.clients.get_mut(number) {
            *client = Client::Closed;
        }
        self.open += 1;
        self.dialing -= 1;
    }

    /// Handles the end of a stream by the server.
    pub fn stream_ended(&mut self, number: usize) {
        let retry = self.clients.get(number).and_then(Client::retry).unwrap_or_default();
        if let Some(client) = self.clients.get_mut(number) {
            *client = Client::Closed;
        }
        self.check.ended(number);
        self.open -= 1;
        if !self.expects_ends {
            self.check.errors.ended += 1;
            return;
        }
        self.ended += 1;
        match self.config.return_time {
            ReturnTime::AtOnce => self.waiting.push_back(number),
            ReturnTime::AfterRetry => {
                self.away.push(Reverse((nanos() + u64::from(retry) * 1_000_000, number)));
            }
        }
    }
}
