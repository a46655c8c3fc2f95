//! Idle clients over TLS, each of them an `openssl s_client`. That is expensive for the machine,
//! but only the server's memory is measured.

use super::child::{end, pinned};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Creates a key and a self-signed certificate.
pub fn make_certificate(directory: &Path) -> Result<(), String> {
    if directory.join("certificate.pem").exists() {
        return Ok(());
    }
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    command.args(["-nodes", "-days", "30", "-subj", "/CN=localhost", "-keyout"]);
    command.arg(directory.join("key.pem")).arg("-out").arg(directory.join("certificate.pem"));
    let output = command.output().map_err(|error| format!("openssl: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or_else(|| format!("openssl: {said}"))?;
    fs::metadata(directory.join("key.pem")).map(drop).map_err(|error| error.to_string())
}

/// Clients whose streams are open until this value is dropped.
pub struct TlsClients(Vec<Child>);

impl TlsClients {
    pub fn connect(port: u16, count: usize) -> Result<Self, String> {
        let mut clients = Self(Vec::with_capacity(count));
        for _ in 0..count {
            clients.0.push(open(port)?);
        }
        Ok(clients)
    }
}

impl Drop for TlsClients {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(end);
    }
}

/// Opens one client, and returns when it has received the response header.
fn open(port: u16) -> Result<Child, String> {
    let mut command = pinned(Path::new("openssl"), &[]);
    command.args(["s_client", "-quiet", "-tls1_3", "-connect", &format!("127.0.0.1:{port}")]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("openssl: {error}"))?;
    let request = b"GET /s?c=0 HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    let asked = child.stdin.as_mut().map(|stdin| stdin.write_all(request));
    let mut first = [0; 12];
    let answered = child.stdout.as_mut().map(|stdout| stdout.read_exact(&mut first));
    if matches!((asked, answered), (Some(Ok(())), Some(Ok(())))) && &first == b"HTTP/1.1 200" {
        return Ok(child);
    }
    end(&mut child);
    Err("a client over TLS was not answered with 200".into())
}
