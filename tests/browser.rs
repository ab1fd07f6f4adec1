//! A headless Chromium, spoken to in its own protocol, and what it complained of.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::support::{scratch, wait_until};

/// A browser with one page. It keeps what went wrong in the page, and what the page asked for.
pub(crate) struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    calls: u64,
    /// Errors of the console, uncaught exceptions, requests that failed.
    pub(crate) complaints: Vec<String>,
    /// The addresses of all requests.
    pub(crate) requests: Vec<String>,
    /// Bytes of the bodies that came.
    pub(crate) bytes: u64,
}

impl Drop for Browser {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Browser {
    pub(crate) fn start() -> Browser {
        let home = scratch();
        let chromium = ["chromium", "chromium-browser", "google-chrome"].iter().find(|name| {
            let version = Command::new(name)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            version.is_ok_and(|status| status.success())
        });
        let chromium = chromium.expect("needs a Chromium; `./marketday test` installs one");
        let quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"];
        let alone = ["--disable-background-networking", "--disable-component-update"];
        let child = Command::new(chromium)
            .args(quiet)
            .args(alone)
            .args(["--disable-sync", "--disable-quic", "--hide-scrollbars", "--lang=en-US"])
            .args(["--remote-debugging-port=0", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", home.display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let told = home.join("DevToolsActivePort");
        let mut place = String::new();
        wait_until("Chromium says where it listens", || {
            place = fs::read_to_string(&told).unwrap_or_default();
            place.lines().count() == 2
        });
        let (port, path) = place.split_once('\n').unwrap();
        let stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        // Whatever it is asked, it answers in time or never.
        stream.set_read_timeout(Some(Duration::from_mins(4))).unwrap();
        let url = format!("ws://127.0.0.1:{port}{}", path.trim());
        let (socket, _) = tungstenite::client(url, stream).unwrap();
        let mut browser = Browser {
            child,
            socket,
            session: None,
            calls: 0,
            complaints: Vec::new(),
            requests: Vec::new(),
            bytes: 0,
        };
        let page = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", &attach);
        browser.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Calls a method of the protocol.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut call = json!({ "id": id, "method": method, "params": *params });
        if let Some(session) = &self.session {
            call["sessionId"] = session.as_str().into();
        }
        self.socket.send(Message::text(call.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else { continue };
            let mut answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            self.hear(&answer);
        }
    }

    fn hear(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => {
                self.complaints.push(params["exceptionDetails"].to_string());
            }
            "Runtime.consoleAPICalled"
                if params["type"] == "error" || params["type"] == "warning" =>
            {
                self.complaints.push(params["args"].to_string());
            }
            "Log.entryAdded" if params["entry"]["level"] == "error" => {
                self.complaints.push(params["entry"].to_string());
            }
            "Network.requestWillBeSent" => {
                self.requests.push(params["request"]["url"].as_str().unwrap().to_owned());
            }
            "Network.dataReceived" => {
                self.bytes += params["dataLength"].as_u64().unwrap_or(0);
            }
            _ => {}
        }
    }

    /// Goes to an address.
    pub(crate) fn open(&mut self, url: &str) {
        let gone = self.call("Page.navigate", &json!({ "url": url }));
        assert!(gone["errorText"].is_null(), "{url}: {gone}");
    }

    /// What an expression of JavaScript comes to; it may be a promise.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", &params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Waits until an expression holds.
    pub(crate) fn until(&mut self, what: &str, expression: &str) {
        wait_until(what, || self.eval(expression) == true);
    }

    /// The size of the window, and whether it is a phone's.
    pub(crate) fn size(&mut self, width: u32, height: u32) {
        let mobile = width < 700;
        let params =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.call("Emulation.setDeviceMetricsOverride", &params);
    }

    /// Dark or light, as a visitor's system has it.
    pub(crate) fn scheme(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Keeps a picture of the page for people to look at.
    pub(crate) fn picture(&mut self, name: &str) -> PathBuf {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pictures");
        fs::create_dir_all(&dir).unwrap();
        let shot = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        let file = dir.join(format!("{name}.png"));
        fs::write(&file, STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()).unwrap();
        file
    }
}
