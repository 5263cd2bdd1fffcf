use super::*;
use crate::part;
use crate::part::Part;
use crate::state::{Event, Format, Payload, State, TabType};
use proptest::prelude::*;

const NOW_SECS: i64 = 1_394_047_815;

fn limits() -> FoldLimits {
    FoldLimits { line_bytes_max: 200, ..FoldLimits::default() }
}

fn fold_pieces<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: FoldLimits,
) -> Result<Folded, FoldError> {
    let vbuckets = VbucketCount::new(4).expect("a valid count");
    let mut folder = Folder::new(vbuckets, limits, Timestamp::from_secs(NOW_SECS));
    pieces.into_iter().try_for_each(|piece| folder.feed(piece))?;
    folder.finish()
}

fn fold(body: impl AsRef<[u8]>) -> Folded {
    fold_pieces([body.as_ref()], limits()).expect("sound framing")
}

/// `client/tab = aggregate` of each part, sorted.
fn shown(folded: &Folded) -> Vec<String> {
    let mut shown = Vec::new();
    for (_, block) in folded.parts.blocks() {
        for part in part::iter(block) {
            let Ok(Part::State { tab, client, state, .. }) = part else { panic!("not a state: {part:?}") };
            let mut text = format!("{client}/{tab} = ");
            let state = State::decode(state).expect("a sound state");
            state.render(Timestamp::from_secs(NOW_SECS), Format::Plain, &mut text);
            shown.push(text);
        }
    }
    shown.sort();
    shown
}

/// The same for the totals of one second's counters: `client/tab = count total`.
fn totals(folded: &Folded) -> Vec<String> {
    let cut = |text: String| {
        let (name, json) = text.split_once(" = ").expect("as shown");
        let json: serde_json::Value = serde_json::from_str(json).expect("strict JSON");
        format!("{name} = {} {}", json["1d"]["count"], json["1d"]["total"])
    };
    shown(folded).into_iter().map(cut).collect()
}

/// Folds `lines` as events of client `c`, tab `n`, with a good event around each.
fn fold_lines(lines: &[&str]) -> Folded {
    let good = r#"["CounterGroup", 1394047812.35, "1"]"#;
    fold(format!("1\n\nc\n\nn\n{good}\n{}\n{good}\n\n\n", lines.join("\n")))
}

/// A line that is bad for `reason` and costs its neighbours nothing.
#[track_caller]
fn check_bad(line: &str, reason: BadReason) {
    let folded = fold_lines(&[line]);
    assert_eq!(folded.bad.iter().collect::<Vec<_>>(), [(reason, 1)], "{line}");
    assert_eq!((folded.events, totals(&folded)), (2, vec!["c/n = 2 2.0".to_owned()]), "{line}");
    let sample = &folded.bad_samples[0];
    assert_eq!((sample.reason, sample.offset), (reason, 45), "{line}");
}

#[test]
fn the_reference_body_folds_into_one_part() {
    let body = b"1\n\nc1\n\nn1\n[\"CounterGroup\", 1394047812.35, \"1\"]\n\n\n";
    assert_eq!(body.len(), 49);
    let folded = fold(body);
    assert_eq!((folded.events, folded.bad.total()), (1, 0));
    assert_eq!(totals(&folded), ["c1/n1 = 1 1.0"]);
}

#[test]
fn two_clients_in_one_body_are_kept_apart() {
    let body = "1\n\nca\n\nna\n[\"CounterGroup\", 1394047812, \"1\"]\n\n\ncb\n\nnb\n\
                [\"CounterGroup\", 1394047812, \"2\"]\n[\"CounterGroup\", 1394047812, \"3\"]\n\n\n";
    assert_eq!(totals(&fold(body)), ["ca/na = 1 1.0", "cb/nb = 2 5.0"]);
}

#[test]
fn a_wrong_version_is_refused_and_nothing_is_applied() {
    let error = fold_pieces([&b"2\n\nc\n\nn\n"[..]], limits()).expect_err("a wrong version");
    assert_eq!(error, FoldError::Framing(FramingError { offset: 0, what: "expected the version, 1" }));
}

#[test]
fn crlf_bodies_are_accepted() {
    let body = "1\n\nc\n\nn\n[\"CounterGroup\", 1394047812.35, \"1\"]\n\n\n";
    assert_eq!(totals(&fold(body.replace('\n', "\r\n"))), totals(&fold(body)));
}

#[test]
fn a_missing_blank_line_after_a_client_is_refused_as_a_whole() {
    let body = "1\n\na\n\nn\n[\"CounterGroup\", 1394047812, \"1\"]\n\n\nb\nn\n";
    let error = fold_pieces([body.as_bytes()], limits()).expect_err("no blank line");
    let offset = body.len() as u64 - 2;
    let what = "expected a blank line after a client id";
    assert_eq!(error, FoldError::Framing(FramingError { offset, what }));
}

#[test]
fn bodies_without_events_fold_into_nothing() {
    for body in ["", "1", "1\n\n", "1\n\nc\n\n\n", "1\n\nc\n\nn\n\n\n"] {
        let folded = fold(body);
        assert!(folded.parts.is_empty() && folded.events == 0 && folded.bad.total() == 0, "{body:?}");
    }
}

#[test]
fn a_first_line_that_is_no_array_costs_only_itself() {
    let good = r#"["CounterGroup", 1394047812.35, "1"]"#;
    let folded = fold(format!("1\n\nc\n\nn\nnot json\n{good}\n{{}}\n\n\n"));
    assert_eq!(folded.bad.get(BadReason::BadJson), 2);
    assert_eq!(totals(&folded), ["c/n = 1 1.0"]);
}

#[test]
fn a_later_bad_line_costs_only_itself() {
    check_bad(r#"["CounterGroup", 1394047812.35, "1""#, BadReason::BadJson);
    check_bad(r#"["CounterGroup", 1394047812.35]"#, BadReason::BadJson);
    check_bad(r#"["CounterGroup", "soon", "1"]"#, BadReason::BadTime);
    check_bad(
        &format!(r#"["CounterGroup", 1394047812.35, "1", "{}"]"#, "x".repeat(200)),
        BadReason::LineTooLong,
    );
}

#[test]
fn a_payload_that_does_not_fit_its_type_costs_only_itself() {
    check_bad(r#"["CounterGroup", 1394047812.35, "\"text\""]"#, BadReason::BadPayload);
    check_bad(r#"["CounterGroup", 1394047812.35, "null"]"#, BadReason::BadPayload);
    check_bad(r#"["CounterGroup", 1394047812.35, ""]"#, BadReason::BadPayload);
    check_bad(r#"["CounterGroup", 1394047812.35, 1]"#, BadReason::BadPayload);
    check_bad(r#"["Buffer", 1394047812.35, "\"bare\""]"#, BadReason::BadPayload);
}

#[test]
fn numbers_that_are_not_finite_never_reach_a_sum() {
    for payload in ["NaN", "Infinity", "-Infinity", "[NaN]", "1e999"] {
        check_bad(&format!(r#"["CounterGroup", 1394047812.35, "{payload}"]"#), BadReason::Nan);
    }
    check_bad(r#"["CounterGroup", NaN, "1"]"#, BadReason::Nan);
}

#[test]
fn a_name_without_events_leaves_no_trace() {
    let body = "1\n\nc\n\nempty\n\nn\n[\"CounterGroup\", 1394047812, \"1\"]\n\n\n";
    assert_eq!(totals(&fold(body)), ["c/n = 1 1.0"]);
}

#[test]
fn an_unknown_type_is_counted_and_claims_nothing() {
    check_bad(r#"["CounterGroop", 1394047812.35, "1"]"#, BadReason::UnknownType);
    check_bad(r#"[7, 1394047812.35, "1"]"#, BadReason::UnknownType);
}

#[test]
fn a_line_of_another_type_is_folded_by_its_own_type() {
    let folded = fold_lines(&[r#"["Gauge", 1394047812.35, "\"up\""]"#]);
    assert_eq!(folded.events, 3);
    let shown = shown(&folded);
    assert!(shown.len() == 2 && shown.contains(&r#"c/n = {"up": 1}"#.to_owned()), "{shown:?}");
}

#[test]
fn invalid_characters_in_a_name_cost_only_its_events() {
    let event = r#"["CounterGroup", 1394047812.35, "1"]"#;
    let folded = fold(format!("1\n\nc\n\nbad name\n{event}\n{event}\n\nn\n{event}\n\n\n"));
    assert_eq!(folded.bad.get(BadReason::BadName), 2);
    assert_eq!(totals(&folded), ["c/n = 1 1.0"]);
}

#[test]
fn an_empty_tab_name_moves_no_other_tab_to_a_bogus_client() {
    let event = r#"["CounterGroup", 1394047812.35, "1"]"#;
    let folded = fold(format!("1\n\nc\n\na\n{event}\n\n\n{event}\n\nb\n{event}\n\n\n"));
    assert_eq!(folded.bad.iter().collect::<Vec<_>>(), [(BadReason::BadName, 1)]);
    assert_eq!(totals(&folded), ["c/a = 1 1.0", "c/b = 1 1.0"]);
}

#[test]
fn events_past_the_tolerance_are_bad_and_at_it_are_not() {
    let tolerated = NOW_SECS + 300;
    for (time, bad) in [("", 0), (".0", 0), (".000001", 1), (".01", 1)] {
        let line = format!(r#"["CounterGroup", {tolerated}{time}, "1"]"#);
        let folded = fold_lines(&[&line]);
        assert_eq!(folded.bad.get(BadReason::Future), bad, "{line}");
    }
    let last_second =
        [".0", ".0", ".5", ".0"].map(|time| format!(r#"["CounterGroup", {tolerated}{time}, "1"]"#));
    let folded = fold_lines(&last_second.each_ref().map(String::as_str));
    assert_eq!((folded.events, folded.bad.get(BadReason::Future)), (5, 1));
    check_bad(r#"["CounterGroup", 1394047812350, "1"]"#, BadReason::Future);
    let ancient = fold_lines(&[r#"["CounterGroup", -5e9, "1"]"#]);
    assert_eq!((ancient.events, ancient.bad.total()), (3, 0));
}

#[test]
fn every_accepted_form_of_a_number_counts() {
    for line in [
        r#"["CounterGroup",1394047812,"5"]"#,
        r#"["CounterGroup", "1394047812.35", "5"]"#,
        r#"["CounterGroup", 1.39404781235e9, " 5.0e0 "]"#,
        r#"["CounterGroup", 1394047812.35, "[5, 7]"]"#,
        r#"["CounterGroup", 1394047812.35, "[+5 7]"]"#,
        r#"["CounterGroup" 1394047812.35 "005"]"#,
        r#"["CounterGroup", 1394047812.35, "\u0035", "more", {"a": []}]"#,
    ] {
        assert_eq!(totals(&fold_lines(&[line])), ["c/n = 3 7.0"], "{line}");
    }
}

#[test]
fn gauges_keep_text_in_any_of_its_spellings() {
    for (line, text) in [
        (&br#"["Gauge", 1394047812, "\"\\U0001f600\""]"#[..], "😀"),
        ("[\"Gauge\", 1394047812, \"\\\"é\\\"\"]".as_bytes(), "é"),
        (b"[\"Gauge\", 1394047812, \"\\\"\xe9\\\"\"]", "é"),
        (br#"["Gauge", 1394047812, "[\"\\u00e9\" 1]"]"#, "é"),
    ] {
        let folded = fold([b"1\n\nc\n\nn\n", line, b"\n\n\n"].concat());
        let json: serde_json::Value =
            serde_json::from_str(shown(&folded)[0].trim_start_matches("c/n = ")).expect("strict JSON");
        assert_eq!(json, serde_json::json!({ text: 1 }));
    }
}

#[test]
fn samples_are_few_short_and_printable() {
    let long = format!("\x1b[31m\"{}", "x".repeat(150));
    let folded = fold_lines(&[long.as_str(); 20]);
    assert_eq!((folded.bad.get(BadReason::BadJson), folded.bad_samples.len()), (20, 8));
    for sample in &folded.bad_samples {
        assert!(sample.line.starts_with(r#"\x1b[31m"xxx"#) && sample.line.len() < 130, "{}", sample.line);
    }
    assert_eq!(folded.bad_samples[1].offset - folded.bad_samples[0].offset, long.len() as u64 + 1);
}

#[test]
fn a_body_that_folds_into_too_much_is_refused() {
    let tabs: Vec<_> =
        (0..100).map(|tab| format!("t{tab}\n[\"CounterGroup\", 1394047812, \"1\"]\n\n")).collect();
    let limits = FoldLimits { parts_bytes_max: 1000, ..limits() };
    let body = format!("1\n\nc\n\n{}\n", tabs.concat());
    let error = fold_pieces([body.as_bytes()], limits).expect_err("more than 1000 bytes");
    assert_eq!(error, FoldError::TooLarge { max: 1000 });
}

#[test]
fn a_block_longer_than_the_columns_keeps_every_event() {
    let event = "[\"CounterGroup\", 1394047812.35, \"1\"]\n";
    let folded = fold(format!("1\n\nc\n\nn\n{}\n\n", event.repeat(5000)));
    assert_eq!((folded.events, totals(&folded)), (5000, vec!["c/n = 5000 5000.0".to_owned()]));
}

/// An event line, mostly of the usual shape.
fn event_line() -> impl Strategy<Value = String> {
    let tab_type = prop_oneof![5 => Just("CounterGroup"), 1 => Just("PercentileGroup"), 1 => Just("Gauge"), 1 => Just("Oops")];
    let time = prop_oneof![
        6 => (0..200_u32).prop_map(|centis| format!("{}.{:02}", 1_394_047_812 + centis / 100, centis % 100)),
        1 => (1_394_040_000_i64..1_394_049_000).prop_map(|secs| secs.to_string()),
        1 => prop_oneof![Just("NaN"), Just("\"1394047812\""), Just("1.394047812e9"), Just("9999999999.5"), Just("x")]
            .prop_map(str::to_owned),
    ];
    let payload = prop_oneof![
        6 => "-?[0-9]{1,5}(\\.[0-9]{1,2})?",
        1 => prop_oneof![Just("[1, 2]"), Just("1e3"), Just("NaN"), Just("\\\"a\\\""), Just("123456789.123"), Just("")]
            .prop_map(str::to_owned),
    ];
    (tab_type, time, payload, any::<bool>()).prop_map(|(tab_type, time, payload, spaced)| {
        let blank = if spaced { " " } else { "" };
        format!("[\"{tab_type}\",{blank}{time},{blank}\"{payload}\"]\n")
    })
}

fn body() -> impl Strategy<Value = String> {
    let tab = (
        prop_oneof![4 => Just("n"), 1 => Just("m"), 1 => Just("bad name"), 1 => Just("")],
        proptest::collection::vec(event_line(), 0..8),
    )
        .prop_map(|(name, lines)| format!("{name}\n{}\n", lines.concat()));
    let client = (prop_oneof![Just("c"), Just("d")], proptest::collection::vec(tab, 0..4))
        .prop_map(|(client, tabs)| format!("{client}\n\n{}\n", tabs.concat()));
    proptest::collection::vec(client, 0..3).prop_map(|clients| format!("1\n\n{}", clients.concat()))
}

/// Everything a folded body is, bytes of the parts included.
fn all_of(folded: Result<Folded, FoldError>) -> Result<String, FoldError> {
    folded.map(|folded| {
        let blocks: Vec<_> = folded.parts.blocks().collect();
        format!("{blocks:?} {} {:?} {:?}", folded.events, folded.bad, folded.bad_samples)
    })
}

proptest! {
    /// forall body, cuts: fold(pieces) == fold(body), to the byte.
    #[test]
    fn cuts_never_show_in_the_parts(body in body(), cuts in proptest::collection::vec(0..2000_usize, 0..9)) {
        let mut cuts: Vec<_> = cuts.into_iter().map(|at| at.min(body.len())).chain([0, body.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|ends| &body.as_bytes()[ends[0]..ends[1]]).collect();
        let whole = all_of(fold_pieces([body.as_bytes()], limits()));
        prop_assert_eq!(&all_of(fold_pieces(pieces, limits())), &whole);
        prop_assert_eq!(&all_of(fold_pieces(body.as_bytes().chunks(1), limits())), &whole);
    }

    /// forall body: the quick way and the general one give the same parts, to the byte. The quick way is
    /// off where a line may be shorter than it looks ahead.
    #[test]
    fn the_quick_way_changes_nothing(body in body()) {
        let general_only = FoldLimits { line_bytes_max: crate::wire::v1::fast::LINE_BYTES_MAX - 1, ..limits() };
        let general = fold_pieces([body.as_bytes()], general_only);
        prop_assert_eq!(all_of(fold_pieces([body.as_bytes()], limits())), all_of(general));
    }

    /// forall events of strict JSON: the part is what folding what a JSON library reads gives.
    #[test]
    fn strict_events_fold_as_a_json_library_reads_them(
        events in proptest::collection::vec((0..300_i64, -1000..1000_i32), 1..80),
    ) {
        let mut body = String::from("1\n\nc\n\nn\n");
        let mut model = State::new(TabType::CounterGroup);
        for (ordinal, (age, value)) in (0..).zip(events) {
            let line = serde_json::json!(["CounterGroup", NOW_SECS - age, value.to_string()]).to_string();
            let read: (String, i64, String) = serde_json::from_str(&line).expect("its own output");
            let payload = Payload::Number(read.2.parse().expect("a number"));
            let event = Event { time: Timestamp::from_secs(read.1), ordinal, payload };
            model.fold("c", &event, Timestamp::from_secs(NOW_SECS)).expect("a number");
            body.push_str(&line);
            body.push('\n');
        }
        let folded = fold(&body);
        let (_, block) = folded.parts.blocks().next().expect("one part");
        let Some(Ok(Part::State { state, .. })) = part::iter(block).next() else { panic!("not a state") };
        prop_assert_eq!(State::decode(state).expect("a sound state"), model);
    }

    /// forall bytes: no panic, and what cannot be read is refused or counted.
    #[test]
    fn any_bytes_are_folded_or_refused(
        start in prop_oneof![Just(""), Just("1\n\n"), Just("1\n\nc\n\nn\n[\"CounterGroup\", 1394047812, \"1\"]\n")],
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'['), Just(b'"'), Just(b'\\')], 0..80),
    ) {
        let _ = fold_pieces([start.as_bytes(), &bytes[..]], limits());
    }
}
