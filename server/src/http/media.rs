//! Which form of an answer a client wants: `Accept` as RFC 9110 section 12.5.1 defines it.
//!
//! The first Taba compared the whole header value with one string. Here lists, wildcards, qualities and
//! parameters work; a header that accepts nothing on offer still gets the default form of its endpoint
//! group, as it did there, because a wrong form helps a person more than an error about forms.

use axum::http::{HeaderMap, header};

/// A form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `text/plain`: lines for people and scripts.
    Text,
    /// `application/json`.
    Json,
    /// `application/json-detailed`: the first Taba's own; buckets instead of sums.
    Detailed,
}

/// Endpoint groups by the forms they offer and the one they fall back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// `/projection`, `/tabs`, `/supertabs`: all three forms, otherwise text.
    Aggregates,
    /// `/clients`, `/names`, `/types`, `/ids`: text or JSON, otherwise text.
    Lists,
    /// `/status`, `/servers`, `/latency`: text or JSON; text without a header, otherwise JSON.
    Cluster,
    /// Errors under `/v2`: JSON unless text is asked for.
    Errors,
}

/// Most media ranges of a header that are looked at; browsers send fewer than ten. The rest is ignored.
const RANGES_MAX: usize = 64;

impl Media {
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => ("text", "plain"),
            Self::Json => ("application", "json"),
            Self::Detailed => ("application", "json-detailed"),
        }
    }

    /// The value for `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            // The detailed form is JSON too; only the request names it apart.
            Self::Json | Self::Detailed => "application/json",
        }
    }
}

impl Group {
    const fn offers(self) -> &'static [Media] {
        match self {
            Self::Aggregates => &[Media::Text, Media::Json, Media::Detailed],
            Self::Lists | Self::Cluster => &[Media::Text, Media::Json],
            Self::Errors => &[Media::Json, Media::Text],
        }
    }

    /// The form to answer in.
    #[must_use]
    pub fn choose(self, headers: &HeaderMap) -> Media {
        let mut accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<Range<'_>> = accept
            .by_ref()
            .flat_map(|value| value.split(','))
            .take(RANGES_MAX)
            .filter_map(Range::parse)
            .collect();
        if ranges.is_empty() {
            return self.offers()[0];
        }
        let best = self.offers().iter().filter_map(|media| Some((rank(*media, &ranges)?, *media)));
        // `max_by_key` keeps the last of equals, so the first offer has to come last.
        match best.rev().max_by_key(|(rank, _)| *rank) {
            Some((_, media)) => media,
            None if self == Self::Cluster => Media::Json,
            None => self.offers()[0],
        }
    }
}

/// One media range of the header. Parameters other than `q` are ignored: all our forms are UTF-8.
struct Range<'a> {
    main: &'a str,
    sub: &'a str,
    /// In thousandths, as the RFC allows three digits.
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut pieces = text.split(';').map(str::trim);
        let (main, sub) = pieces.next()?.split_once('/')?;
        let quality = pieces.filter_map(|piece| piece.split_once('=')).find_map(|(key, value)| {
            key.trim().eq_ignore_ascii_case("q").then(|| parse_quality(value.trim()))
        });
        Some(Self { main: main.trim(), sub: sub.trim(), quality: quality.unwrap_or(1000) })
    }

    /// How closely the range names the media type: 3 by name, 2 by `type/*`, 1 by `*/*`.
    fn closeness(&self, media: Media) -> Option<u8> {
        let (main, sub) = media.names();
        match (self.main, self.sub) {
            ("*", "*") => Some(1),
            (range, "*") if range.eq_ignore_ascii_case(main) => Some(2),
            (range, name) if range.eq_ignore_ascii_case(main) && name.eq_ignore_ascii_case(sub) => Some(3),
            _ => None,
        }
    }
}

/// A quality that cannot be read counts as 1: the client did name the type.
fn parse_quality(text: &str) -> u16 {
    match text.parse::<f32>() {
        Ok(quality) if (0.0..=1.0).contains(&quality) => (quality * 1000.0).round() as u16,
        _ => 1000,
    }
}

/// What decides between offers: quality, then closeness, then the earlier place in the header.
type Rank = (u16, u8, std::cmp::Reverse<usize>);

/// The rank that the closest range gives an offer; `None` if it is not acceptable.
fn rank(media: Media, ranges: &[Range<'_>]) -> Option<Rank> {
    let matching = ranges.iter().enumerate().filter_map(|(place, range)| {
        range.closeness(media).map(|closeness| (closeness, std::cmp::Reverse(place), range.quality))
    });
    let (closeness, place, quality) = matching.max_by_key(|(closeness, place, _)| (*closeness, *place))?;
    (quality > 0).then_some((quality, closeness, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(group: Group, accept: &str, expected: Media) {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(header::ACCEPT, accept.parse().expect("a header value"));
        }
        assert_eq!(group.choose(&headers), expected, "{group:?} with {accept:?}");
    }

    #[test]
    fn no_preference_means_text_everywhere() {
        for group in [Group::Aggregates, Group::Lists, Group::Cluster] {
            for accept in ["", "*/*", "text/plain", "text/*", "*/*;q=0.1"] {
                check(group, accept, Media::Text);
            }
        }
    }

    #[test]
    fn the_first_tabas_own_values_choose_what_they_chose_there() {
        check(Group::Aggregates, "application/json", Media::Json);
        check(Group::Aggregates, "APPLICATION/JSON-Detailed", Media::Detailed);
        check(Group::Aggregates, "image/png", Media::Text);
        check(Group::Lists, "application/json", Media::Json);
        check(Group::Lists, "application/json-detailed", Media::Text);
        check(Group::Cluster, "application/json", Media::Json);
        check(Group::Cluster, "application/xml", Media::Json);
    }

    #[test]
    fn lists_wildcards_qualities_and_parameters_work() {
        check(Group::Aggregates, "application/json; charset=utf-8", Media::Json);
        check(Group::Aggregates, "application/json, */*", Media::Json);
        check(Group::Aggregates, "application/*", Media::Json);
        check(Group::Aggregates, "application/json;q=0.5, text/plain", Media::Text);
        check(Group::Aggregates, "text/plain;q=0.5, application/json", Media::Json);
        check(Group::Aggregates, "application/json, text/plain, */*", Media::Json);
        check(Group::Aggregates, "text/plain, application/json", Media::Text);
        check(Group::Aggregates, "application/json;q=0, */*", Media::Text);
        check(Group::Aggregates, "text/plain;q=0, */*", Media::Json);
        check(Group::Aggregates, "application/json;q=0.2, application/json-detailed;q=0.3", Media::Detailed);
        check(
            Group::Aggregates,
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            Media::Text,
        );
        check(Group::Cluster, "text/plain;q=0", Media::Json);
    }

    #[test]
    fn errors_are_json_unless_text_is_asked_for() {
        check(Group::Errors, "", Media::Json);
        check(Group::Errors, "*/*", Media::Json);
        check(Group::Errors, "text/plain", Media::Text);
    }

    #[test]
    fn malformed_ranges_are_passed_over() {
        check(Group::Aggregates, "json, application/json", Media::Json);
        check(Group::Aggregates, ";;;,,", Media::Text);
        check(Group::Aggregates, "application/json;q=nan", Media::Json);
        check(Group::Aggregates, "application/json;q=7", Media::Json);
    }
}
