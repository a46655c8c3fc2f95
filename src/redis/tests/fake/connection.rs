//! A connection to a fake Redis: reads commands, and writes replies and messages.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{split, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{sleep, Instant};

use super::state::{Connection, Fault, State};
use crate::redis::tests::resp::{take_command, Reply};
use crate::redis::tests::words::{is, text};

const MOMENT: Duration = Duration::from_millis(1);

/// Serves a connection.
pub fn connect(state: &Rc<RefCell<State>>, socket: impl AsyncRead + AsyncWrite + 'static) {
    let (mut read, mut write) = split(socket);
    let (out, mut outgoing) = mpsc::unbounded_channel::<Vec<u8>>();
    let number = state.borrow().made;
    let (shared, replies) = (state.clone(), out.clone());
    let serve = async move {
        let mut bytes = Vec::new();
        loop {
            while let Some(words) = take_command(&mut bytes) {
                if !serve(&shared, number, &words, &replies).await {
                    shared.borrow_mut().close(number);
                    return;
                }
            }
            if read.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                shared.borrow_mut().close(number);
                return;
            }
        }
    };
    let send = async move {
        while let Some(bytes) = outgoing.recv().await {
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let tasks = [spawn_local(serve), spawn_local(send)];
    let mut state = state.borrow_mut();
    state.made += 1;
    let (channels, patterns) = Default::default();
    state.connections.insert(number, Connection { out, channels, patterns, tasks });
}

impl State {
    fn close(&mut self, number: u64) {
        if let Some(connection) = self.connections.remove(&number) {
            connection.tasks[1].abort();
        }
    }
}

/// Serves a command. Returns false if its connection is to be closed.
async fn serve(
    state: &Rc<RefCell<State>>,
    from: u64,
    words: &[Vec<u8>],
    out: &mpsc::UnboundedSender<Vec<u8>>,
) -> bool {
    let shown: Vec<String> = words.iter().take(3).map(|word| text(word)).collect();
    state.borrow_mut().commands.push(shown.join(" "));
    let fault = state.borrow_mut().fault_of(words);
    let replies = match fault {
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::Reply(reply)) => vec![reply],
        Some(Fault::CloseBehind) => {
            state.borrow_mut().run(from, words);
            return false;
        }
        Some(Fault::Wait) => {
            while state.borrow().is_held(words) {
                sleep(MOMENT).await;
            }
            state.borrow_mut().run(from, words)
        }
        Some(Fault::Hold) => {
            let replies = state.borrow_mut().run(from, words);
            while state.borrow().is_held(words) {
                sleep(MOMENT).await;
            }
            replies
        }
        None if is(&words[0], "XREAD") => vec![read_streams(state, words).await],
        None => state.borrow_mut().run(from, words),
    };
    for reply in replies {
        let _ = out.send(reply.bytes());
    }
    true
}

async fn read_streams(state: &Rc<RefCell<State>>, words: &[Vec<u8>]) -> Reply {
    let until = Instant::now() + Duration::from_millis(text(&words[4]).parse().unwrap());
    loop {
        if let Some(reply) = state.borrow().store.read_streams(words) {
            return reply;
        }
        if Instant::now() >= until {
            return Reply::Nil;
        }
        sleep(MOMENT).await;
    }
}
