use super::*;
use proptest::prelude::*;

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

/// A moment as RFC 3339.
fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What is said, on a Friday at half past four in the afternoon.
fn said(word: &str) -> Result<Timestamp, WhenError> {
    parse(word, at("2026-11-20T16:30:00+01:00"), &berlin())
}

#[test]
fn times_are_read_as_people_say_them() {
    for (word, meant) in [
        ("now", "2026-11-20T16:30:00+01:00"),
        (" now ", "2026-11-20T16:30:00+01:00"),
        ("03:12", "2026-11-20T03:12:00+01:00"),
        ("03:12:30", "2026-11-20T03:12:30+01:00"),
        ("03:12:30.5", "2026-11-20T03:12:30.5+01:00"),
        ("16:30", "2026-11-20T16:30:00+01:00"),
        ("16:31", "2026-11-19T16:31:00+01:00"),
        ("yesterday", "2026-11-19T00:00:00+01:00"),
        ("yesterday 14:00", "2026-11-19T14:00:00+01:00"),
        ("today", "2026-11-20T00:00:00+01:00"),
        ("today 03:00", "2026-11-20T03:00:00+01:00"),
        ("today 23:00", "2026-11-20T23:00:00+01:00"),
        ("-2h", "2026-11-20T14:30:00+01:00"),
        ("-90m", "2026-11-20T15:00:00+01:00"),
        ("-1h 30m", "2026-11-20T15:00:00+01:00"),
        ("-1d", "2026-11-19T16:30:00+01:00"),
        ("2026-11-20", "2026-11-20T00:00:00+01:00"),
        ("2026-07-01", "2026-07-01T00:00:00+02:00"),
        ("2026-11-20T03:12", "2026-11-20T03:12:00+01:00"),
        ("2026-11-20 03:12:05", "2026-11-20T03:12:05+01:00"),
        ("2026-11-20T03:12+05:30", "2026-11-20T03:12:00+05:30"),
        ("2026-11-20T03:12-0800", "2026-11-20T03:12:00-08:00"),
        ("2026-11-20T03:12Z", "2026-11-20T03:12:00Z"),
        ("2026-11-20T17:02:10.123456789+01:00", "2026-11-20T17:02:10.123456789+01:00"),
        ("@1795190400", "2026-11-20T16:00:00Z"),
        ("@1795190400.25", "2026-11-20T16:00:00.25Z"),
        ("@-1", "1969-12-31T23:59:59Z"),
    ] {
        assert_eq!(said(word), Ok(at(meant)), "{word}");
    }
}

#[test]
fn what_is_no_time_is_said_with_examples() {
    for wrong in [
        "",
        "-",
        "@",
        "@x",
        "@1.",
        "@1.0000000001",
        "3:12",
        "24:00",
        "03:60",
        "03:12.5",
        "0312",
        "noon",
        "tomorrow",
        "todayish",
        "today+01:00",
        "today 03:00+01:00",
        "2026-11-31",
        "2026-1-2",
        "20-11-2026",
        "2026-11-20X03:12",
        "2026-11-20T",
        "2026-11-20T03:12+1",
        "2026-11-20T03:12+24:00",
        "-2",
        "-2y",
        "--2h",
        "-h",
        "2026-11-20T03:12[Europe/Berlin]",
        "2026-11-20é03:12",
        "ééééé",
    ] {
        let error = said(wrong).unwrap_err();
        assert!(matches!(error, WhenError::Unknown(_)), "{wrong}: {error:?}");
        assert!(error.to_string().contains("03:12, 03:12:30, yesterday 14:00, -2h"), "{error}");
    }
    for far in ["@99999999999999", "@99999999999999999999999", "-999999999d"] {
        assert!(matches!(said(far), Err(WhenError::TooFar(_))), "{far}: {:?}", said(far));
    }
}

#[test]
fn an_hour_that_was_there_twice_wants_its_offset() {
    let error = said("2026-10-25T02:30").unwrap_err().to_string();
    assert_eq!(
        error,
        "2026-10-25T02:30:00 was there twice in Europe/Berlin, as clocks were set back: say 2026-10-25T02:30:00+02 for the first time or 2026-10-25T02:30:00+01 for the second"
    );
    // What it says to say is understood.
    assert_eq!(said("2026-10-25T02:30:00+02"), Ok(at("2026-10-25T00:30:00Z")));
    assert_eq!(said("2026-10-25T02:30:00+01"), Ok(at("2026-10-25T01:30:00Z")));
    // The clock alone: once both are over it is not known which; before that only one has been.
    let on_that_day = |now: &str| parse("02:30", at(now), &berlin());
    assert!(matches!(on_that_day("2026-10-25T09:00:00+01:00"), Err(WhenError::Twice { .. })));
    assert_eq!(on_that_day("2026-10-25T02:10:00+01:00"), Ok(at("2026-10-25T02:30:00+02:00")));
    assert_eq!(on_that_day("2026-10-25T02:10:00+02:00"), Ok(at("2026-10-24T02:30:00+02:00")));
}

#[test]
fn an_hour_that_did_not_exist_is_told_with_its_gap() {
    let error = said("2026-03-29 02:30").unwrap_err().to_string();
    assert_eq!(
        error,
        "2026-03-29T02:30:00 did not exist in Europe/Berlin: clocks were set forward from 2026-03-29T02:00:00 to 2026-03-29T03:00:00; say a time outside of that"
    );
    let on_that_day = |now: &str| parse("02:30", at(now), &berlin());
    assert!(matches!(on_that_day("2026-03-29T09:00:00+02:00"), Err(WhenError::Absent { .. })));
    assert_eq!(on_that_day("2026-03-29T01:00:00+01:00"), Ok(at("2026-03-28T02:30:00+01:00")));
    // Clocks that are set forward at midnight: the day begins at one.
    let havana = TimeZone::get("America/Havana").unwrap();
    assert_eq!(parse("2026-03-08", at("2026-11-20T16:30:00Z"), &havana), Ok(at("2026-03-08T05:00:00Z")));
}

#[test]
fn a_day_ago_is_24_hours_ago() {
    assert_eq!(parse("-1d", at("2026-10-25T12:00:00+01:00"), &berlin()), Ok(at("2026-10-24T13:00:00+02:00")));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,40}", date in "[0-9T:+@. -]{0,30}", ago in "-[0-9]{0,25}[a-zé ]{0,3}", seconds in any::<i64>()) {
        let now = Timestamp::new(seconds % 200_000_000_000, 0).unwrap_or(Timestamp::UNIX_EPOCH);
        for text in [text, date.clone(), format!("yesterday{date}"), format!("2026-11-20{date}"), ago, format!("@{seconds}")] {
            let _ = parse(&text, now, &berlin());
            let _ = parse(&text, Timestamp::MIN, &berlin());
            let _ = parse(&text, Timestamp::MAX, &TimeZone::UTC);
        }
    }

    #[test]
    fn rfc_3339_comes_back(seconds in 0_i64..250_000_000_000, ns in 0_i32..1_000_000_000, quarters in -48_i32..=56) {
        let meant = Timestamp::new(seconds, ns).unwrap();
        let offset = Offset::from_seconds(quarters * 900).unwrap();
        let text = meant.display_with_offset(offset).to_string();
        prop_assert_eq!(parse(&text, Timestamp::UNIX_EPOCH, &berlin()), Ok(meant), "{}", text);
        prop_assert_eq!(parse(&meant.to_string(), Timestamp::UNIX_EPOCH, &berlin()), Ok(meant));
    }

    // A clock that says when it is, is right; but for the hours that are there twice.
    #[test]
    fn local_times_come_back(seconds in 0_i64..4_000_000_000) {
        let meant = Timestamp::new(seconds, 0).unwrap();
        let local = text(meant.to_zoned(berlin()).datetime());
        match parse(&local, Timestamp::UNIX_EPOCH, &berlin()) {
            Ok(at) => prop_assert_eq!(at, meant),
            Err(WhenError::Twice { first, second, .. }) => {
                let is_one = [first, second].map(|offset| format!("{local}{offset}")).iter().any(|full| said(full) == Ok(meant));
                prop_assert!(is_one, "{}", local);
            }
            Err(error) => prop_assert!(false, "{}: {}", local, error),
        }
    }
}
