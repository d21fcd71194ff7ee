//! The text that workloads answer at `/metrics`: Prometheus' text format 0.0.4, and of OpenMetrics
//! as much as has the same shape. Types and descriptions are passed over: how a series is read is
//! said by whoever asks for it.

/// One value of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Point<'a> {
    /// The name of the metric.
    pub name: &'a str,
    /// Its labels, in the order written.
    pub labels: Vec<(&'a str, String)>,
    /// Its value.
    pub value: f64,
    /// When it was so, in milliseconds since 1970, when the text says so.
    pub at_ms: Option<i64>,
}

impl Point<'_> {
    /// Names the series: the same whatever the order of the labels.
    pub fn series(&self) -> String {
        let mut labels: Vec<String> = self.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        labels.sort();
        format!("{}{{{}}}", self.name, labels.join(","))
    }
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the metrics: {what}")]
pub struct Fault {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// The points of `text`, in order.
pub fn read(text: &str) -> impl Iterator<Item = Result<Point<'_>, Fault>> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(line, text)| {
        let mut rest = text;
        point(&mut rest).map_err(|what| Fault { line, what })
    })
}

fn point<'a>(rest: &mut &'a str) -> Result<Point<'a>, &'static str> {
    let name = word(rest, |c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("it begins with no name");
    }
    let labels = labels(rest)?;
    // An exemplar may follow.
    let (numbers, _) = rest.split_once('#').unwrap_or((rest, ""));
    let mut numbers = numbers.split_ascii_whitespace();
    let value = numbers.next().and_then(number).ok_or("it has no value")?;
    let at_ms = numbers.next().map(|at| moment(at).ok_or("its time is no number")).transpose()?;
    match numbers.next() {
        Some(_) => Err("something follows its time"),
        None => Ok(Point { name, labels, value, at_ms }),
    }
}

/// The longest beginning of `rest` that is made of what `part` says.
fn word<'a>(rest: &mut &'a str, part: impl Fn(char) -> bool) -> &'a str {
    let (word, after) = rest.split_at(rest.find(|c| !part(c)).unwrap_or(rest.len()));
    *rest = after;
    word
}

fn labels<'a>(rest: &mut &'a str) -> Result<Vec<(&'a str, String)>, &'static str> {
    let mut labels = Vec::new();
    let Some(mut inside) = rest.trim_start().strip_prefix('{') else { return Ok(labels) };
    loop {
        inside = inside.trim_start();
        if let Some(after) = inside.strip_prefix('}') {
            *rest = after;
            return Ok(labels);
        }
        let name = word(&mut inside, |c| c.is_ascii_alphanumeric() || c == '_');
        if name.is_empty() {
            return Err("a label has no name");
        }
        let value = inside.trim_start().strip_prefix('=').and_then(|after| after.trim_start().strip_prefix('"'));
        inside = value.ok_or("a label has no value")?;
        labels.push((name, quoted(&mut inside)?));
        inside = inside.trim_start();
        match inside.strip_prefix(',') {
            Some(after) => inside = after,
            None if inside.starts_with('}') => {}
            None => return Err("labels are not separated"),
        }
    }
}

/// A text up to its closing quote; the opening one was read.
fn quoted(rest: &mut &str) -> Result<String, &'static str> {
    let mut text = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                *rest = &rest[at + 1..];
                return Ok(text);
            }
            '\\' => match chars.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, c @ ('\\' | '"'))) => text.push(c),
                // As Prometheus reads it.
                Some((_, c)) => text.extend(['\\', c]),
                None => break,
            },
            c => text.push(c),
        }
    }
    Err("a label's value has no end")
}

fn number(text: &str) -> Option<f64> {
    // Rust reads `inf` and `nan` in any case, with a sign.
    text.parse().ok()
}

/// Whole milliseconds, or seconds with a point as OpenMetrics has it.
fn moment(text: &str) -> Option<i64> {
    match text.contains('.') {
        true => text.parse::<f64>().ok().map(|seconds| (seconds * 1_000.0) as i64),
        false => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_the_format_is_read() {
        let text = r#"
# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9

# Minimalistic line:
metric_without_timestamp_and_labels 12.47

# A weird metric from before the epoch:
something_weird{problem="division by zero"} +Inf -3982045
http_request_duration_seconds_bucket{le="+Inf",} 144320
rpc_duration_seconds{quantile="0.5"} NaN
with_exemplar_total{a="b"} 7 1395066363.5 # {trace="x"} 1
"#;
        let points: Vec<Point> = read(text).map(Result::unwrap).collect();
        let shown: Vec<String> = points.iter().map(|p| format!("{} {} {:?}", p.series(), p.value, p.at_ms)).collect();
        assert_eq!(
            shown,
            [
                r#"http_requests_total{code="200",method="post"} 1027 Some(1395066363000)"#,
                r#"http_requests_total{code="400",method="post"} 3 Some(1395066363000)"#,
                r#"msdos_file_access_time_seconds{error="Cannot find file:\n\"FILE.TXT\"",path="C:\\DIR\\FILE.TXT"} 1458255915 None"#,
                r#"metric_without_timestamp_and_labels{} 12.47 None"#,
                r#"something_weird{problem="division by zero"} inf Some(-3982045)"#,
                r#"http_request_duration_seconds_bucket{le="+Inf"} 144320 None"#,
                r#"rpc_duration_seconds{quantile="0.5"} NaN None"#,
                r#"with_exemplar_total{a="b"} 7 Some(1395066363500)"#,
            ]
        );
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        for (text, what) in [
            ("1a 2", "it begins with no name"),
            ("<html>", "it begins with no name"),
            ("a", "it has no value"),
            ("a x", "it has no value"),
            ("a 1 x", "its time is no number"),
            ("a 1 2 3", "something follows its time"),
            ("a{b=\"c\" d=\"e\"} 1", "labels are not separated"),
            ("a{b} 1", "a label has no value"),
            ("a{=\"c\"} 1", "a label has no name"),
            ("a{b=\"c} 1", "a label's value has no end"),
            ("a{b=\"c\\", "a label's value has no end"),
            ("a{b=\"c\"", "labels are not separated"),
        ] {
            let text = format!("fine 1\n{text}\n");
            assert_eq!(read(&text).nth(1).unwrap().unwrap_err(), Fault { line: 2, what }, "{text}");
        }
    }

    proptest! {
        /// Anything is read or refused; nothing panics.
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z0-9{}\"=,\\\\ #+.\n-]{0,80}") {
            for point in read(&text) {
                let _ = point.map(|point| point.series());
            }
        }

        /// What was written by the rules is read back.
        #[test]
        fn labels_come_back(value in "\\PC{0,20}") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let text = format!("a{{b=\"{escaped}\"}} 1");
            // `lines` would also end a line at a carriage return before the end.
            prop_assume!(!value.contains(['\r', '\n']));
            let point = read(&text).next().unwrap().unwrap();
            prop_assert_eq!(&point.labels[0].1, &value);
        }
    }
}
