//! Header fields: what is said of a cached value, and what is read of an upstream's.
#![cfg(feature = "http")]

mod common;

use common::{checked, secs};
use http::HeaderMap;
use larder::{Cache, Clock, Downstream, Got, How, Loaded, ManualClock, Upstream};
use proptest::prelude::*;
use std::time::Duration;

type Pages = common::Checked<u64, u64>;

/// Lives of 100 s, windows of 30 s and 60 s.
fn pages() -> (Pages, ManualClock) {
    let (clock, hand) = Clock::manual();
    let builder = Cache::builder().max_entries(100).time_to_live(secs(100)).clock(clock);
    (checked(builder.stale_while_revalidate(secs(30)).stale_if_error(secs(60))), hand)
}

fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn load(pages: &Pages, loaded: Loaded<u64>) -> Got<u64> {
    pages.at(&1).force().load(|_| Ok::<_, ()>(loaded)).unwrap()
}

/// How long an answer with this `Cache-Control` is kept in a cache without windows.
fn life(is_shared: bool, control: &str) -> Duration {
    let (clock, _hand) = Clock::manual();
    let pages = checked(Cache::builder().max_entries(10).time_to_live(secs(100)).clock(clock));
    let upstream = Upstream::of(&pages);
    let upstream = if is_shared { upstream.shared() } else { upstream };
    load(&pages, upstream.loaded(1, &fields(&[("cache-control", control)]))).fresh_for
}

#[test]
fn without_a_max_age_the_dates_say_how_long() {
    let day = |time: &str| format!("Sun, 06 Nov 1994 {time} GMT");
    let (made, later) = (day("08:49:37"), day("08:50:07"));
    let life = |lines: &[(&'static str, &str)]| {
        let (pages, _hand) = pages();
        let upstream = Upstream::of(&pages);
        // long enough for the cache's windows
        let said = [lines, &[("cache-control", "stale-if-error=60")]].concat();
        load(&pages, upstream.loaded(1, &fields(&said))).fresh_for
    };
    let until = |until| life(&[("date", &made), ("expires", until)]);
    assert_eq!(until(&later), secs(30));
    assert_eq!(until(&made), secs(0));
    assert_eq!(until("Sunday, 06-Nov-94 08:50:07 GMT"), secs(30), "as it was once written");
    for no_date in ["0", "-1", "soon", ""] {
        assert_eq!(until(no_date), secs(0), "{no_date}");
    }
    let lines = [("date", &*made), ("expires", &*later)];
    assert_eq!(life(&[lines[0], lines[1], ("age", "10")]), secs(20));
    assert_eq!(life(&[lines[0], lines[1], ("cache-control", "max-age=50")]), secs(50));
    assert_eq!(life(&[("expires", &later)]), secs(0), "long ago");
}

#[test]
fn an_answers_life_is_read() {
    for (control, alone, shared) in [
        ("max-age=60", 60, 60),
        ("MAX-AGE=60 , Public", 60, 60),
        ("max-age=\"60\"", 60, 60),
        ("max-age=60, s-maxage=10", 60, 10),
        ("s-maxage=10", 100, 10),
        ("max-age=60, max-age=5", 60, 60), // the first one counts
        ("", 100, 100),
        ("public", 100, 100),
        ("foo=\"max-age=7, no-store\", max-age=60", 60, 60),
        ("community=\"UCI\\\", no-store\", max-age=60", 60, 60),
        ("private, max-age=60", 60, 0),
        ("private=\"set-cookie\", max-age=60", 60, 0),
        ("no-store, max-age=60", 0, 0),
        ("no-cache", 0, 0),
        ("no-cache=\"x\"", 0, 0),
        ("max-age=0", 0, 0),
        // a life that cannot be read is over
        ("max-age=-5", 0, 0),
        ("max-age=1.5", 0, 0),
        ("max-age=soon", 0, 0),
        ("max-age", 0, 0),
        ("max-age=", 0, 0),
        // and what means nothing is left out
        (",,=,;=,\",max-age=60", 100, 100),
        ("max-age=60, =, a=b=c, \u{fc}", 60, 60),
    ] {
        let expected = (secs(alone), secs(shared));
        assert_eq!((life(false, control), life(true, control)), expected, "{control}");
    }
    // no more has to be told apart than 68 years (RFC 9111, 1.2.2)
    assert_eq!(life(false, "max-age=99999999999999999999"), secs(1 << 31));
}

#[test]
fn an_answers_age_is_taken_off_its_life() {
    let (pages, _hand) = pages();
    let upstream = Upstream::of(&pages);
    for (age, left) in [("10", 50), ("60", 0), ("61", 0), ("x", 60), ("-1", 60), ("10, 20", 50)] {
        let headers = fields(&[("cache-control", "max-age=60"), ("age", age)]);
        assert_eq!(load(&pages, upstream.loaded(1, &headers)).fresh_for, secs(left), "age: {age}");
    }
}

#[test]
fn what_is_not_to_be_stored_is_handed_on() {
    let (pages, _hand) = pages();
    let upstream = Upstream::of(&pages).shared();
    for headers in [
        fields(&[("cache-control", "no-store")]),
        fields(&[("cache-control", "max-age=60"), ("cache-control", "private")]),
        fields(&[("cache-control", "no-cache, max-age=60")]),
        fields(&[("vary", "accept, *"), ("cache-control", "max-age=60")]),
    ] {
        pages.remove(&1);
        assert_eq!(load(&pages, upstream.loaded(7, &headers)).value, 7);
        assert!(!pages.contains(&1));
    }
}

#[test]
fn an_answer_is_not_served_stale_for_longer_than_it_allows() {
    // what the answer says, and when it must not be served any more, not even on error
    for (control, last) in [
        ("max-age=100", 160), // the cache's own windows
        ("max-age=100, must-revalidate", 100),
        ("max-age=100, stale-if-error=10, stale-while-revalidate=30", 110),
        ("max-age=100, stale-if-error=1000", 160),
        ("max-age=1, s-maxage=100", 100),
        ("max-age=100, proxy-revalidate", 100),
        ("must-revalidate", 100),
        ("max-age=10, must-revalidate", 0),
    ] {
        let (pages, hand) = pages();
        let upstream = Upstream::of(&pages).shared();
        load(&pages, upstream.loaded(1, &fields(&[("cache-control", control)])));
        let failing = || pages.get_or_load(&1, || Err::<u64, _>("away"));
        if last > 0 {
            hand.advance(secs(last - 1));
            assert_eq!(failing().unwrap(), 1, "{control}");
            hand.advance(secs(1));
        }
        assert!(failing().is_err(), "{control}");
    }
}

#[test]
fn a_version_is_asked_for_and_confirmed() {
    let (pages, hand) = pages();
    let upstream = Upstream::of(&pages);
    let headers = fields(&[("cache-control", "max-age=10"), ("etag", "W/\"v1\"")]);
    load(&pages, upstream.loaded(1, &headers));
    hand.advance(secs(20));
    let got = pages.at(&1).load(|cx| {
        assert_eq!(upstream.if_none_match(cx).unwrap(), "W/\"v1\"");
        Ok::<_, ()>(upstream.unchanged(&fields(&[("cache-control", "max-age=40")])))
    });
    let got = got.unwrap();
    assert_eq!((got.value, got.fresh_for), (1, secs(40)));
    assert_eq!(pages.peek(&1).unwrap().validator.as_deref(), Some("W/\"v1\""));
    for bad in ["v1", "\"v", "\"a\"b\"", "\"a b\"", "w/\"v1\"", ""] {
        let got = load(&pages, upstream.loaded(1, &fields(&[("etag", bad)])));
        assert_eq!(got.validator, None, "{bad}");
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn an_answer_says_how_long_it_may_be_kept_and_how_it_came() {
    let (pages, hand) = pages();
    let http = Downstream::new("larder");
    let load = || pages.at(&1).load(|_| Ok::<_, ()>(Loaded::new(1).validator("v1"))).unwrap();
    let fields = http.headers(&load());
    assert_eq!(text(&fields, "cache-control"), Some("max-age=100"));
    assert_eq!((text(&fields, "age"), text(&fields, "etag")), (Some("0"), Some("\"v1\"")));
    assert_eq!(text(&fields, "cache-status"), Some("larder; fwd=miss; stored; ttl=100"));
    hand.advance(Duration::from_millis(30_500));
    let fields = http.headers(&load());
    assert_eq!(text(&fields, "age"), Some("30"));
    assert_eq!(text(&fields, "cache-control"), Some("max-age=99")); // 69.5 s are left
    assert_eq!(text(&fields, "cache-status"), Some("larder; hit; ttl=69"));
    hand.advance(secs(100)); // past the first window, within that for errors
    let got = pages.at(&1).load(|_| Err::<u64, _>(())).unwrap();
    let fields = http.headers(&got);
    assert_eq!(text(&fields, "cache-status"), Some("larder; fwd=stale; detail=load-failed"));
    let [age, life] = [text(&fields, "age"), text(&fields, "cache-control")].map(Option::unwrap);
    assert_eq!((age, life), ("130", "max-age=130"), "nothing is left");
    let fallback = pages.at(&2).fallback(5).load(|_| Err::<u64, _>(())).unwrap();
    assert_eq!(fallback.how, How::Fallback);
    let fields = http.headers(&fallback);
    assert_eq!(text(&fields, "cache-status"), Some("larder; fwd=miss; detail=fallback"));

    let http = Downstream::new("my \"own\" cache\u{e9}\n").private();
    let http = http.stale_while_revalidate(secs(30)).stale_if_error(Duration::MAX);
    pages.at(&3).ttl(Duration::MAX).insert(1);
    let fields = http.headers(&pages.peek(&3).unwrap());
    let control = "private, max-age=31536000, stale-while-revalidate=30, stale-if-error=2147483648";
    assert_eq!(text(&fields, "cache-control"), Some(control));
    assert_eq!(text(&fields, "cache-status"), Some("\"my \\\"own\\\" cache\"; hit"));
    assert_eq!(text(&fields, "etag"), None);
}

#[test]
fn a_request_that_has_this_version_is_told_so() {
    let (pages, _hand) = pages();
    let http = Downstream::new("larder");
    let got = load(&pages, Loaded::new(1).validator("W/\"a,b\""));
    for (lines, is_same) in [
        (&["W/\"a,b\""][..], true),
        (&["\"a,b\""], true), // weak comparison
        (&["\"x\", \"a,b\" , \"y\""], true),
        (&["\"x\"", "\"a,b\""], true), // two lines are one list
        (&["*"], true),
        (&["\"x\", *"], false),
        (&["\"a\", \"b\""], false),
        (&["a,b"], false),
        (&["\"a,b"], false),
        (&[""], false),
        (&[], false),
    ] {
        let mut request = HeaderMap::new();
        for line in lines {
            request.append("if-none-match", line.parse().unwrap());
        }
        assert_eq!(http.is_not_modified(&request, &got), is_same, "{lines:?}");
    }
    // in an entity tag a backslash is a character like any other (RFC 9110, 8.8.3)
    let odd = load(&pages, Loaded::new(1).validator(r#""C:\dir\""#));
    for wanted in [r#""C:\dir\""#, r#""C:\dir\", "x""#, r#""x\", "C:\dir\""#, r#""x", W/"C:\dir\""#]
    {
        assert!(http.is_not_modified(&fields(&[("if-none-match", wanted)]), &odd), "{wanted}");
    }
    let unversioned = load(&pages, Loaded::new(1));
    assert!(!http.is_not_modified(&fields(&[("if-none-match", "\"\"")]), &unversioned));
}

proptest! {
    /// Whatever stands in them: no panic, and what is written can be read.
    #[test]
    fn no_field_is_too_odd(
        values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 4),
        pieces in "[a-z0-9=,\" \\\\*/W-]{0,60}",
        validator in any::<String>(),
        name in any::<String>(),
    ) {
        let cache: Cache<u64, u64> = Cache::new(10);
        let mut headers = HeaderMap::new();
        for (field, value) in ["cache-control", "age", "etag", "vary"].iter().zip(&values) {
            if let Ok(value) = http::HeaderValue::from_bytes(value) {
                headers.append(*field, value.clone());
                headers.append("if-none-match", value);
            }
        }
        headers.append("cache-control", pieces.parse().unwrap());
        headers.append("if-none-match", pieces.parse().unwrap());
        let loaded = Upstream::of(&cache).shared().loaded(1, &headers);
        let got = cache.at(&1).load(|_| Ok::<_, ()>(loaded)).unwrap();
        let http = Downstream::new(&name);
        let said = http.headers(&got);
        prop_assert!(said.contains_key("cache-control") && said.contains_key("cache-status"));
        http.is_not_modified(&headers, &got);
        let got = cache.at(&2).load(|_| Ok::<_, ()>(Loaded::new(1).validator(validator))).unwrap();
        let said = http.headers(&got);
        if let Some(tag) = said.get("etag") {
            let mut request = HeaderMap::new();
            request.insert("if-none-match", tag.clone());
            prop_assert!(http.is_not_modified(&request, &got));
        }
    }
}

#[test]
fn what_was_not_stored_here_is_not_to_be_stored_elsewhere() {
    let (pages, hand) = pages();
    let upstream = Upstream::of(&pages).shared();
    let http = Downstream::new("here").stale_while_revalidate(secs(30)).stale_if_error(secs(600));
    for control in ["no-store", "private, max-age=60", "no-cache", "max-age=0"] {
        let got = load(&pages, upstream.loaded(7, &fields(&[("cache-control", control)])));
        let said = http.headers(&got);
        assert_eq!(text(&said, "cache-control"), Some("no-store"), "{control}");
        pages.remove(&1);
    }
    let fallback = pages.at(&2).fallback(9).load(|_| Err::<u64, _>("away")).unwrap();
    assert_eq!(text(&http.headers(&fallback), "cache-control"), Some("no-store"));
    // what is stale is not made staler elsewhere
    pages.insert(1, 1);
    let fresh = http.headers(&pages.peek(&1).unwrap());
    let windows = "max-age=100, stale-while-revalidate=30, stale-if-error=600";
    assert_eq!(text(&fresh, "cache-control"), Some(windows));
    hand.advance(secs(110));
    let stale = pages.at(&1).load(|_| Err::<u64, _>("away")).unwrap();
    assert_eq!(text(&http.headers(&stale), "cache-control"), Some("max-age=110"));
}

#[test]
fn no_age_is_too_great_to_be_said() {
    let (pages, _hand) = pages();
    let mut got = load(&pages, Loaded::new(1));
    got.age = Duration::MAX; // as a second tier may say
    let said = Downstream::new("here").headers(&got);
    assert_eq!(text(&said, "age"), Some(&*u64::MAX.to_string()));
    assert_eq!(text(&said, "cache-control"), Some(&*format!("max-age={}", u64::MAX)));
}
