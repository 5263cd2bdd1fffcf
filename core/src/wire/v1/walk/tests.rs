use super::*;
use proptest::prelude::*;

/// Writes down what a walk finds, one line each, and checks that lines are where they say.
struct Log<'a> {
    body: &'a [u8],
    lines: Vec<String>,
}

impl Log<'_> {
    fn note(&mut self, line: Line<'_>, text: &str) {
        let offset = usize::try_from(line.offset).expect("a small body");
        assert!(self.body[offset..].starts_with(line.bytes), "offset {offset} of {text}");
        assert!(offset == 0 || self.body[offset - 1] == b'\n');
        self.lines.push(text.to_owned());
    }
}

impl Sink for Log<'_> {
    type Error = FramingError;

    fn tab(&mut self, client: &str, tab: &str) -> Result<(), FramingError> {
        self.lines.push(format!("{client}/{tab}"));
        Ok(())
    }

    fn event(&mut self, line: Line<'_>) -> Result<(), FramingError> {
        self.note(line, &String::from_utf8_lossy(line.bytes));
        Ok(())
    }

    fn bad(&mut self, reason: BadReason, line: Line<'_>) {
        self.note(line, reason.as_str());
    }

    fn tab_end(&mut self) -> Result<(), FramingError> {
        self.lines.push("end".into());
        Ok(())
    }
}

const LINE_BYTES_MAX: usize = 40;

fn walk(pieces: &[&[u8]]) -> (Vec<String>, Result<(), FramingError>) {
    let mut walker = Walker::new(LINE_BYTES_MAX);
    let body = pieces.concat();
    let mut log = Log { body: &body, lines: Vec::new() };
    for piece in pieces {
        if let Err(error) = walker.feed(piece, &mut log) {
            return (log.lines, Err(error));
        }
    }
    let end = walker.finish(&mut log);
    (log.lines, end)
}

#[track_caller]
fn check(body: &str, expected: &[&str]) {
    assert_eq!(
        walk(&[body.as_bytes()]),
        (expected.iter().map(ToString::to_string).collect(), Ok(())),
        "{body:?}"
    );
    let crlf = body.replace('\n', "\r\n");
    let (log, end) = walk(&[crlf.as_bytes()]);
    assert_eq!((log.len(), end), (expected.len(), Ok(())), "the same with CRLF");
}

#[track_caller]
fn check_error(body: &str, offset: u64, what: &str) {
    let error = walk(&[body.as_bytes()]).1.expect_err("unreadable framing");
    assert_eq!((error.offset, error.what), (offset, what), "{body:?}");
}

#[test]
fn clients_tabs_and_events_are_told_apart() {
    check("1\n\nc1\n\nn1\ne1\n\n\n", &["c1/n1", "e1", "end"]);
    check(
        "1\n\nca\n\nna\ne\nf\n\nnb\ng\n\n\ncb\n\nna\nh\n\n\n",
        &["ca/na", "e", "f", "end", "ca/nb", "g", "end", "cb/na", "h", "end"],
    );
}

#[test]
fn repeated_names_and_clients_are_blocks_of_their_own() {
    let log = ["c/n", "e", "end", "c/n", "f", "end", "c/n", "g", "end"];
    check("1\n\nc\n\nn\ne\n\nn\nf\n\n\nc\n\nn\ng\n\n\n", &log);
}

#[test]
fn missing_blank_lines_at_the_end_are_fine() {
    for end in ["", "\n", "\n\n", "\n\n\n", "\n\n\n\n", "\n\n\n\n\n\n\n"] {
        check(&format!("1\n\nc\n\nn\ne{end}"), &["c/n", "e", "end"]);
    }
}

#[test]
fn bodies_without_events_are_fine() {
    for body in ["", "1", "1\n", "1\n\n", "1\n\nc", "1\n\nc\n\n", "1\n\nc\n\n\n", "1\n\n\n\n\n\n\n\n"] {
        check(body, &[]);
    }
    check("1\n\nc\n\nn\n\nm\n\n\n", &["c/n", "end", "c/m", "end"]);
}

#[test]
fn unreadable_framing_is_an_error_with_its_offset() {
    for body in ["2\n\n", "1 \n\n", "\n", "11\n", "garbage"] {
        check_error(body, 0, "expected the version, 1");
    }
    check_error("1\nc\n\n", 2, "expected a blank line after the version");
    check_error("1\n\nc\nn\ne\n\n\n", 5, "expected a blank line after a client id");
    check_error("1\r\n\r\nc\r\nn\r\n", 8, "expected a blank line after a client id");
    let long = format!("1\n\nc\n{}", "x".repeat(100));
    check_error(&long, 5, "expected a blank line after a client id");
}

#[test]
fn events_under_a_bad_name_are_bad_and_nothing_else() {
    check("1\n\nc\n\na b\ne\nf\n\nn\ng\n\n\n", &["bad_name", "bad_name", "c/n", "g", "end"]);
    check("1\n\nc d\n\nn\ne\n\n\nc\n\nn\nf\n\n\n", &["bad_name", "c/n", "f", "end"]);
    let long = "x".repeat(300);
    check(&format!("1\n\n{long}\n\nn\ne\n\n\n"), &["bad_name"]);
    check(&format!("1\n\nc\n\n{long}\ne\n\nn\n\n\n"), &["bad_name", "c/n", "end"]);
}

#[test]
fn an_empty_client_id_is_read_and_its_events_are_bad() {
    check("1\n\n\n\nn\ne\n\n\nc\n\nn\nf\n\n\n", &["bad_name", "c/n", "f", "end"]);
}

#[test]
fn a_line_too_long_is_one_bad_event() {
    let long = "x".repeat(LINE_BYTES_MAX + 1);
    check(&format!("1\n\nc\n\nn\ne\n{long}\nf\n\n\n"), &["c/n", "e", "line_too_long", "f", "end"]);
    let fits = "x".repeat(LINE_BYTES_MAX);
    check(&format!("1\n\nc\n\nn\n{fits}\n\n\n"), &["c/n", &fits, "end"]);
    check(&format!("1\n\nc\n\na b\n{long}\n\n\n"), &["line_too_long"]);
}

const EVENT: &str = r#"["CounterGroup", 1, "1"]"#;

#[test]
fn tabs_after_an_empty_tab_name_stay_with_their_client() {
    let body = format!("1\n\nc\n\na\n{EVENT}\n\n\n{EVENT}\n{EVENT}\n\nb\n{EVENT}\n\n\nd\n\na\n{EVENT}\n\n\n");
    let log = ["c/a", EVENT, "end", "bad_name", "bad_name", "c/b", EVENT, "end", "d/a", EVENT, "end"];
    check(&body, &log);
}

#[test]
fn an_empty_tab_name_may_come_first_or_last() {
    check(&format!("1\n\nc\n\n\n{EVENT}\n\nb\n{EVENT}\n\n\n"), &["bad_name", "c/b", EVENT, "end"]);
    check(&format!("1\n\nc\n\nb\n{EVENT}\n\n\n{EVENT}\n\n\n"), &["c/b", EVENT, "end", "bad_name"]);
}

#[test]
fn a_client_id_that_only_starts_like_an_event_takes_no_tabs_from_others() {
    let body = format!("1\n\nc\n\nn\n{EVENT}\n\n\n[host]\n\nn\n{EVENT}\n\n\n");
    check(&body, &["c/n", EVENT, "end", "bad_name"]);
}

#[test]
fn an_event_where_a_tab_name_is_due_is_counted_too() {
    let body = format!("1\n\nc\n\nn\n{EVENT}\n\n{EVENT}\n{EVENT}\n\n\n");
    check(&body, &["c/n", EVENT, "end", "bad_name", "bad_name"]);
}

proptest! {
    /// forall body near the grammar, cuts: walk(pieces) == walk(body)
    #[test]
    fn cuts_never_show_in_the_walk(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("1\n\n".to_owned()), Just("\n".into()), Just("\r\n".into()), Just("c\n\n".into()),
                Just("n\n".into()), Just(format!("{EVENT}\n")), Just("bad name\n".into()), Just("x".repeat(60)),
            ],
            0..14,
        ),
        cuts in proptest::collection::vec(0..300_usize, 0..8),
        starts_well: bool,
    ) {
        let body = if starts_well { format!("1\n\nc\n\n{}", parts.concat()) } else { parts.concat() };
        let mut cuts: Vec<_> = cuts.into_iter().map(|at| at.min(body.len())).chain([0, body.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|ends| &body.as_bytes()[ends[0]..ends[1]]).collect();
        prop_assert_eq!(walk(&pieces), walk(&[body.as_bytes()]));
    }
}
