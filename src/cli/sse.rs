//! Reading server-sent events, as bytes come.

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Frame {
    /// After which one the stream can be resumed.
    pub(super) id: Option<String>,
    /// What kind of event it is.
    pub(super) kind: Option<String>,
    /// What it tells; `None` when it tells of progress alone.
    pub(super) data: Option<String>,
}

/// Splits a stream into its events.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The part of a line that has come.
    line: Vec<u8>,
    frame: Frame,
}

impl Frames {
    /// The events that these bytes complete.
    pub(super) fn take_in(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let mut complete = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches('\r');
            if !text.is_empty() {
                self.field(text);
            } else if self.frame != Frame::default() {
                complete.push(std::mem::take(&mut self.frame));
            }
        }
        complete
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        let frame = &mut self.frame;
        match name {
            "id" => frame.id = Some(value.to_owned()),
            "event" => frame.kind = Some(value.to_owned()),
            "data" => match &mut frame.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => frame.data = Some(value.to_owned()),
            },
            // A comment, or a field of a later form.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] =
        b": still here\n\nid: 7\nevent: api.created\ndata: {\"a\":1}\n\nid: 9\n\ndata: x\r\ndata: y\r\n\r\n";

    #[test]
    fn events_are_the_same_however_their_bytes_come() {
        let text = |text: &str| Some(text.to_owned());
        let expected = [
            Frame {
                id: text("7"),
                kind: text("api.created"),
                data: text("{\"a\":1}"),
            },
            Frame {
                id: text("9"),
                ..Frame::default()
            },
            Frame {
                data: text("x\ny"),
                ..Frame::default()
            },
        ];
        for size in 1..=STREAM.len() {
            let mut frames = Frames::default();
            let read: Vec<_> = STREAM
                .chunks(size)
                .flat_map(|chunk| frames.take_in(chunk))
                .collect();
            assert_eq!(read, expected, "in chunks of {size}");
        }
    }

    #[test]
    fn what_was_cut_off_is_no_event() {
        let mut frames = Frames::default();
        assert_eq!(frames.take_in(b"id: 7\ndata: half"), []);
    }
}
