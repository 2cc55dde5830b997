//! A client of a gateway that runs.
//!
//! It asks one thing after the other. What the gateway refuses is told as a person reads it; a
//! gateway that is not there, with what would start one.

use std::{fmt::Write as _, fs, io, ops::ControlFlow, path::PathBuf, time::Duration};

use clap::Args;
use reqwest::{Method, Response, StatusCode, header};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use url::Url;
use zeroize::Zeroizing;

use super::{
    CliError,
    sse::{Frame, Frames},
};
use crate::{delivery, model::Secret};

/// Where a gateway listens when nothing else is said.
const SERVER_DEFAULT: &str = "http://127.0.0.1:8080";
/// The variable that names a gateway.
const SERVER_VARIABLE: &str = "HOOKLOG_SERVER";
/// The variable that holds a token.
const TOKEN_VARIABLE: &str = "HOOKLOG_TOKEN";

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest wait for a whole answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// A stream says something every 15 s. One that is silent for so long is cut.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Waits before a stream that was cut is opened again: the first, and the longest.
const AGAIN_FIRST: Duration = Duration::from_millis(250);
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// Names a gateway that runs, and who asks.
#[derive(Debug, Clone, Args)]
pub(super) struct ServerArgs {
    /// The gateway. Default: the environment's `HOOKLOG_SERVER`, else `http://127.0.0.1:8080`
    #[arg(long, value_name = "URL", value_parser = parse_server)]
    pub(super) server: Option<Url>,
    /// The file of a token to show. Default: the token in the environment's `HOOKLOG_TOKEN`
    #[arg(long, value_name = "FILE", env = "HOOKLOG_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

fn parse_server(text: &str) -> Result<Url, String> {
    let expected = "expected a URL such as http://127.0.0.1:8080";
    let url: Url = text
        .parse()
        .map_err(|error| format!("{error}; {expected}"))?;
    let plain = url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || !plain {
        return Err(expected.to_owned());
    }
    Ok(url)
}

impl ServerArgs {
    /// A client of it. Nothing is asked yet.
    pub(super) fn client(&self) -> Result<Client, CliError> {
        let base = match (&self.server, std::env::var(SERVER_VARIABLE)) {
            (Some(url), _) => url.clone(),
            (None, Ok(text)) if !text.is_empty() => parse_server(&text)
                .map_err(|reason| CliError::config(format!("{SERVER_VARIABLE}: {reason}")))?,
            (None, _) => parse_server(SERVER_DEFAULT).map_err(CliError::config)?,
        };
        let tasks = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let tls = delivery::machine_tls().map_err(CliError::failure)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_MAX)
            .build()
            .map_err(|error| CliError::failure(format!("there is no HTTP client: {error}")))?;
        Ok(Client {
            tasks,
            http,
            base,
            token: self.token()?,
        })
    }

    /// The token, of which a command line may never hold more than where it is.
    fn token(&self) -> Result<Option<Zeroizing<String>>, CliError> {
        let Some(path) = &self.token_file else {
            let found = std::env::var(TOKEN_VARIABLE).ok();
            return Ok(found.filter(|token| !token.is_empty()).map(Zeroizing::new));
        };
        let read = fs::read_to_string(path).map(Zeroizing::new);
        let text = read.map_err(|error| {
            CliError::config(format!("cannot read the token {}: {error}", path.display()))
        })?;
        Ok(Some(Zeroizing::new(text.trim().to_owned())))
    }
}

/// A client of one gateway.
pub(super) struct Client {
    tasks: tokio::runtime::Runtime,
    http: reqwest::Client,
    base: Url,
    token: Option<Zeroizing<String>>,
}

/// A request that is being put together.
#[derive(Clone)]
pub(super) struct Ask<'a> {
    client: &'a Client,
    method: Method,
    url: Url,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
}

/// What was answered to what was done.
pub(super) struct Answer {
    body: String,
}

/// An error of the gateway, as it comes.
#[derive(Deserialize)]
struct Problem {
    title: String,
    detail: String,
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    pointer: String,
    detail: String,
}

impl Client {
    /// A question.
    pub(super) fn get(&self, path: &[&str]) -> Ask<'_> {
        self.ask(Method::GET, path)
    }

    /// Something to be done.
    pub(super) fn post(&self, path: &[&str]) -> Ask<'_> {
        self.ask(Method::POST, path)
    }

    /// Something to be taken away.
    pub(super) fn delete(&self, path: &[&str]) -> Ask<'_> {
        self.ask(Method::DELETE, path)
    }

    fn ask(&self, method: Method, path: &[&str]) -> Ask<'_> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        Ask {
            client: self,
            method,
            url,
            headers: Vec::new(),
            body: None,
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> CliError {
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let refused = cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        let what = match () {
            () if refused => "nothing listens there".to_owned(),
            () if error.is_timeout() => "it does not answer in time".to_owned(),
            () => cause.to_string(),
        };
        let text = format!(
            "cannot ask the gateway at {}: {what}; start one with `hooklog serve`, or name another \
             with --server or {SERVER_VARIABLE}",
            self.base
        );
        let unreachable = if error.is_connect() {
            CliError::failure(text)
        } else {
            CliError::unknown(text)
        };
        // What takes too long will take as long again.
        unreachable.passing(!error.is_timeout())
    }

    /// What was refused, for people to read.
    fn refused(&self, status: StatusCode, body: &str) -> CliError {
        let is_passing = matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        );
        let Ok(problem) = serde_json::from_str::<Problem>(body) else {
            let text = format!(
                "what listens at {} is no hooklog gateway: it answers {status}",
                self.base
            );
            return CliError::failure(text).passing(is_passing);
        };
        let mut text = if problem.errors.is_empty() {
            problem.detail
        } else {
            problem.title
        };
        for fault in problem.errors {
            let place = if fault.pointer.is_empty() {
                "the whole"
            } else {
                &fault.pointer
            };
            let _ = write!(text, "\n  {place}: {}", fault.detail);
        }
        if status == StatusCode::UNAUTHORIZED {
            let hint = if self.token.is_none() {
                "put a token in the environment's HOOKLOG_TOKEN, or name its file with --token-file"
            } else {
                "it is for another gateway, or no longer in force; make one with `hooklog token create`"
            };
            let _ = write!(text, "\n  {hint}");
        }
        let refused = if status.is_server_error() {
            CliError::unknown(text)
        } else {
            CliError::failure(text)
        };
        refused.passing(is_passing)
    }
}

impl Ask<'_> {
    /// The same with this query parameter, when there is one.
    pub(super) fn query(mut self, name: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            let value = value.to_string();
            self.url.query_pairs_mut().append_pair(name, &value);
        }
        self
    }

    /// The same with this header, when there is one.
    pub(super) fn header(mut self, name: &'static str, value: Option<&str>) -> Self {
        self.headers
            .extend(value.map(|value| (name, value.to_owned())));
        self
    }

    /// The same with a body of JSON.
    pub(super) fn json(self, body: &impl Serialize) -> Result<Self, CliError> {
        let body = Secret::exposed(|| serde_json::to_vec(body))?;
        Ok(self.body("application/json", body))
    }

    /// The same with this body.
    pub(super) fn body(mut self, content_type: &str, body: Vec<u8>) -> Self {
        self.body = Some(body);
        self.header("content-type", Some(content_type))
    }

    /// Asks, and gives what was answered.
    pub(super) fn send(self) -> Result<Answer, CliError> {
        self.client.tasks.block_on(self.answer())
    }

    /// As [`send`](Self::send), while a stream is followed.
    pub(super) async fn answer(&self) -> Result<Answer, CliError> {
        let client = self.client;
        let response = self.request().timeout(ANSWER_MAX).send().await;
        let response = response.map_err(|error| client.unreachable(&error))?;
        let status = response.status();
        let body = response.text().await;
        let body = body.map_err(|error| client.unreachable(&error))?;
        if status.is_success() {
            Ok(Answer { body })
        } else {
            Err(client.refused(status, &body))
        }
    }

    /// Follows a stream of events, for ever. When it is cut it is opened again, and goes on after
    /// the last event that was shown. A passing error of `show`, as of a question that a restart cut
    /// off, is such a cut. Ends with the first other error of `show`, or when the gateway refuses.
    pub(super) fn follow(
        self,
        mut show: impl AsyncFnMut(&Frame) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        self.follow_until(async |frame| {
            show(frame).await?;
            Ok(ControlFlow::Continue(()))
        })
    }

    /// As [`follow`](Self::follow), until `show` breaks.
    pub(super) fn follow_until(
        self,
        mut show: impl AsyncFnMut(&Frame) -> Result<ControlFlow<()>, CliError>,
    ) -> Result<(), CliError> {
        let client = self.client;
        client.tasks.block_on(async {
            let mut last = None;
            let mut wait = AGAIN_FIRST;
            let mut response = self.open(None).await?;
            loop {
                match self::show(response, &mut last, &mut show).await? {
                    Told::Enough => return Ok(()),
                    Told::Something => wait = AGAIN_FIRST,
                    Told::Nothing => {}
                }
                response = loop {
                    tracing::warn!(?wait, "the stream was cut; it is opened again");
                    tokio::time::sleep(wait).await;
                    wait = AGAIN_MAX.min(wait * 2);
                    match self.open(last.as_deref()).await {
                        Ok(opened) => break opened,
                        Err(error) if error.is_passing() => {}
                        Err(error) => return Err(error),
                    }
                };
            }
        })
    }

    async fn open(&self, last: Option<&str>) -> Result<Response, CliError> {
        let mut request = self.request().header(header::ACCEPT, "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await;
        let response = response.map_err(|error| self.client.unreachable(&error).passing(true))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.text().await.unwrap_or_default();
        let refused = self.client.refused(status, &body);
        let is_passing = refused.is_passing() || status.is_server_error();
        Err(refused.passing(is_passing))
    }

    fn request(&self) -> reqwest::RequestBuilder {
        let mut request = self
            .client
            .http
            .request(self.method.clone(), self.url.clone());
        if let Some(token) = &self.client.token {
            request = request.bearer_auth(token.as_str());
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        match &self.body {
            Some(body) => request.body(body.clone()),
            None => request,
        }
    }
}

/// What a stream told before it was cut, or before that was enough.
enum Told {
    Nothing,
    Something,
    Enough,
}

/// Shows what a stream tells until it is cut, or until that is enough, and closes it: a gateway keeps
/// a few open for each token, and no more.
async fn show(
    mut response: Response,
    last: &mut Option<String>,
    show: &mut impl AsyncFnMut(&Frame) -> Result<ControlFlow<()>, CliError>,
) -> Result<Told, CliError> {
    let mut frames = Frames::default();
    let mut told = Told::Nothing;
    while let Ok(Ok(Some(chunk))) = tokio::time::timeout(SILENCE_MAX, response.chunk()).await {
        for frame in frames.take_in(&chunk) {
            match show(&frame).await {
                Ok(ControlFlow::Break(())) => return Ok(Told::Enough),
                Ok(ControlFlow::Continue(())) => told = Told::Something,
                Err(error) if error.is_passing() => {
                    // Who waits for what comes is told why nothing does.
                    error.tell();
                    return Ok(told);
                }
                Err(error) => return Err(error),
            }
            if frame.id.is_some() {
                *last = frame.id;
            }
        }
    }
    Ok(told)
}

impl Answer {
    /// As this type.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        serde_json::from_str(&self.body).map_err(|error| {
            CliError::failure(format!(
                "the gateway answers what this version of hooklog does not know: {error}"
            ))
        })
    }

    /// As it came.
    pub(super) fn raw(&self) -> Result<Box<RawValue>, CliError> {
        self.parse()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        net::TcpListener,
        thread,
    };

    use super::*;

    #[test]
    fn a_server_is_a_plain_url() {
        for good in [
            "http://127.0.0.1:8080",
            "https://hooks.example.com/gateway/",
        ] {
            assert!(parse_server(good).is_ok(), "{good}");
        }
        for bad in [
            "127.0.0.1:8080",
            "ftp://example.com",
            "http://hl_secret@example.com",
            "http://example.com/?token=x",
        ] {
            assert!(parse_server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_is_below_the_servers_and_its_parts_are_escaped() {
        let args = ServerArgs {
            server: Some(parse_server("http://example.com/gateway/").unwrap()),
            token_file: None,
        };
        let client = args.client().unwrap();
        let ask = client.get(&["v1", "projections", "a/b"]);
        let ask = ask.query("limit", Some(3)).query("from", None::<u8>);
        assert_eq!(
            ask.url.as_str(),
            "http://example.com/gateway/v1/projections/a%2Fb?limit=3"
        );
    }

    /// A gateway that answers so many requests, each on a connection of its own: with these bytes, or
    /// not at all where there are none. Gives what it was asked.
    fn answering(answers: &'static [&'static str]) -> (Url, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let gateway = thread::spawn(move || {
            let mut open = Vec::new();
            let mut asked = Vec::new();
            for answer in answers {
                let (connection, _) = listener.accept().unwrap();
                let lines = BufReader::new(&connection).lines().map(Result::unwrap);
                let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
                asked.push(head.join("\n"));
                (&connection).write_all(answer.as_bytes()).unwrap();
                // One that is told something stays open, as a stream does.
                open.extend((!answer.is_empty()).then_some(connection));
            }
            asked
        });
        (url.parse().unwrap(), gateway)
    }

    #[test]
    fn a_question_that_a_restart_cuts_off_while_a_stream_is_followed_is_asked_again() {
        const LISTED: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\n1";
        const LATER: &str = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
            content-length: 0\r\n\r\n";
        let (server, gateway) = answering(&[
            "HTTP/1.1 200 OK\r\n\r\nid: 7\ndata: x\n\nid: 8\ndata: y\n\n",
            LISTED,
            "",
            "HTTP/1.1 200 OK\r\n\r\nid: 8\ndata: y\n\n",
            LATER,
            "HTTP/1.1 200 OK\r\n\r\nid: 9\ndata: z\n\n",
            LISTED,
        ]);
        let args = ServerArgs {
            server: Some(server),
            token_file: None,
        };
        let client = args.client().unwrap();
        let list = client.get(&["list"]);
        let mut shown = Vec::new();
        let followed = client.get(&["stream"]).follow_until(async |frame| {
            let rows: u8 = list.answer().await?.parse()?;
            shown.push((frame.id.clone().unwrap_or_default(), rows));
            Ok(if shown.len() < 2 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        });
        followed.unwrap();
        assert_eq!(shown, [("7".to_owned(), 1), ("9".to_owned(), 1)]);
        let asked = gateway.join().unwrap();
        // From behind the last that was shown.
        let again = asked.iter().filter(|head| head.starts_with("GET /stream"));
        let again: Vec<_> = again
            .map(|head| head.contains("last-event-id: 7"))
            .collect();
        assert_eq!(again, [false, true, true]);
    }

    #[test]
    fn a_refusal_names_the_fields_at_fault() {
        let args = ServerArgs {
            server: None,
            token_file: None,
        };
        let client = args.client().unwrap();
        let body = r#"{"title":"A field breaks a rule","detail":"/name: must not be empty",
            "errors":[{"pointer":"/name","detail":"must not be empty"}]}"#;
        let said = client.refused(StatusCode::UNPROCESSABLE_ENTITY, body);
        assert_eq!(
            said.to_string(),
            "A field breaks a rule\n  /name: must not be empty"
        );
        let said = client.refused(StatusCode::OK, "<html>");
        assert!(said.to_string().contains("is no hooklog gateway"), "{said}");
    }
}
