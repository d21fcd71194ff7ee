//! Numbers in expressions: whole numbers of 64 bits and decimals as they were written are the same on
//! every road through an expression, or the expression fails and says which number it cannot take.

use proptest::prelude::*;
use protocol::{Time, Value};
use serde_json::json;
use supervisor::machine::expression::{Expression, Limits, Sight, Trouble};

fn with(input: &Value, source: &str) -> Result<Value, Trouble> {
    seeing(input, &|_| None, source)
}

fn seeing<'a>(
    input: &'a Value,
    variable: &'a dyn Fn(&str) -> Option<&'a Value>,
    source: &str,
) -> Result<Value, Trouble> {
    static CONTEXT: fn() -> Value = || json!({});
    let sight = Sight {
        input,
        result: None,
        error: None,
        context: &CONTEXT,
        variable,
        now: Time::from_micros(0),
        seed: 1,
        limits: Limits::default(),
    };
    Expression::new(source).unwrap_or_else(|why| panic!("{source}: {why}")).evaluate(&sight)
}

/// What an expression is worth, or what its trouble says.
fn said(input: &Value, source: &str) -> String {
    match with(input, source) {
        Ok(value) => value.to_string(),
        Err(trouble) => {
            assert_eq!(trouble.error, "States.QueryEvaluationError", "{source}");
            assert!(!trouble.cause.contains('\u{fdd0}'), "{source}: {}", trouble.cause);
            format!("fails: {}", trouble.cause)
        }
    }
}

#[test]
fn every_road_keeps_the_number_or_names_it() {
    let input = json!({
        "id": 9_007_199_254_740_993_i64, "ids": [616_581_622_363_398_142_i64, 3, -9_007_199_254_740_995_i64],
        "small": 5_890_840_712_243_077_i64, "max": u64::MAX, "min": i64::MIN, "price": 0.123_456_789_012_345_66,
        "third": 0.300_000_000_000_000_04, "cheap": 19.99, "huge": 1e20, "round": 1e18, "one": 1,
        "rows": [{ "id": 9_007_199_254_740_993_i64, "n": "b" }, { "id": 9_007_199_254_740_992_i64, "n": "a" }],
    });
    let mut wrong = Vec::new();
    for (source, expected) in [
        // Handed on.
        ("$states.input.id", "9007199254740993"),
        ("{ 'id': $states.input.id }", r#"{"id":9007199254740993}"#),
        ("$states.input.ids[0]", "616581622363398142"),
        ("$states.input.ids", "[616581622363398142,3,-9007199254740995]"),
        ("[$states.input.max, $states.input.min]", "[18446744073709551615,-9223372036854775808]"),
        ("$states.input.rows.id", "[9007199254740993,9007199254740992]"),
        ("($x := $states.input.id; $x)", "9007199254740993"),
        ("$map($states.input.ids, function($x) { $x })", "[616581622363398142,3,-9007199254740995]"),
        ("$append($states.input.ids, $states.input.id)[3]", "9007199254740993"),
        ("$reverse($states.input.ids)[2]", "616581622363398142"),
        ("$merge([{ 'a': $states.input.id }, { 'b': 1 }])", r#"{"a":9007199254740993,"b":1}"#),
        ("$lookup($states.input, 'id')", "9007199254740993"),
        ("$states.input.*[0]", "9007199254740993"),
        ("$distinct([$states.input.id, $states.input.id, 1, 1])", "[9007199254740993,1]"),
        ("$count($states.input.ids)", "3"),
        ("$partition($states.input.ids, 2)", "[[616581622363398142,3],[-9007199254740995]]"),
        ("$states.input.price", "0.12345678901234566"),
        ("{ 'p': $states.input.third }", r#"{"p":0.30000000000000004}"#),
        ("[$states.input.huge, $states.input.cheap]", "[1e+20,19.99]"),
        // Written as texts.
        ("$string($states.input.id)", r#""9007199254740993""#),
        ("'order-' & $states.input.id", r#""order-9007199254740993""#),
        ("$states.input.id & '-' & $states.input.max", r#""9007199254740993-18446744073709551615""#),
        ("$string($states.input.small)", r#""5890840712243077""#),
        ("'' & $states.input.small", r#""5890840712243077""#),
        ("$string($states.input.price)", r#""0.12345678901234566""#),
        ("$string($states.input.third)", r#""0.30000000000000004""#),
        ("$string({ 'a': [$states.input.id, 'x\"y'] })", r#""{\"a\":[9007199254740993,\"x\\\"y\"]}""#),
        ("'' & [$states.input.id, 1]", r#""[9007199254740993,1]""#),
        ("$map($states.input.ids, $string)", r#"["616581622363398142","3","-9007199254740995"]"#),
        ("$states.input.ids.$string()", r#"["616581622363398142","3","-9007199254740995"]"#),
        ("$states.input.id ~> $string", r#""9007199254740993""#),
        ("$states.input.id ~> $string()", r#""9007199254740993""#),
        ("$length($string($states.input.id))", "16"),
        ("$join($map($states.input.ids, $string), ',')", r#""616581622363398142,3,-9007199254740995""#),
        // The language writes what it reckoned in fifteen figures.
        ("$string(0.1 + 0.2)", r#""0.3""#),
        ("$string(22 / 7)", r#""3.14285714285714""#),
        ("$states.input.id & ' ' & $string(0.1 + 0.2)", r#""9007199254740993 0.3""#),
        // Told apart.
        ("$states.input.id = 9007199254740992", "false"),
        ("$states.input.id = 9007199254740993", "true"),
        ("$states.input.id != 9007199254740992", "true"),
        ("$states.input.rows[0].id = $states.input.rows[1].id", "false"),
        ("$states.input.rows[id = 9007199254740993].n", r#""b""#),
        ("9007199254740993 in [9007199254740992, 1]", "false"),
        ("$states.input.id in [1, 9007199254740993]", "true"),
        ("$states.input.id = '9007199254740993'", "false"),
        ("{ 'a': $states.input.id } = { 'a': 9007199254740993 }", "true"),
        ("$states.input.third = 0.1 + 0.2", "true"),
        ("[$states.input.third, $states.input.id] = [0.1 + 0.2, 9007199254740993]", "true"),
        ("$states.input.round = 1000000000000000000", "true"),
        ("$states.input.id > 9007199254740992", "true"),
        ("$states.input.id <= 9007199254740992", "false"),
        ("$states.input.max > $states.input.min", "true"),
        ("$states.input.max >= 1e18 and $states.input.id < 1e16", "true"),
        ("$states.input.id > 1.5", "true"),
        ("$states.input.id ? 'yes' : 'no'", r#""yes""#),
        ("$exists($states.input.id) and $boolean($states.input.id)", "true"),
        ("$type($states.input.id)", r#""number""#),
        ("$type($states.input.price)", r#""number""#),
        ("$max($states.input.ids)", "616581622363398142"),
        ("$min($states.input.ids)", "-9007199254740995"),
        ("$sort($states.input.ids)", "[-9007199254740995,3,616581622363398142]"),
        ("$sort([9007199254740993, 9007199254740992, 5])", "[5,9007199254740992,9007199254740993]"),
        ("$sort($states.input.rows, function($a, $b) { $a.id > $b.id }).n", r#"["a","b"]"#),
        // Reckoned with.
        ("$states.input.id + 1", "9007199254740994"),
        ("$states.input.id - 1", "9007199254740992"),
        ("9007199254740992 + 1", "9007199254740993"),
        ("9007199254740991 + 2 - 2", "9007199254740991"),
        ("-$states.input.id", "-9007199254740993"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("$states.input.one * 4611686018427387905 * 2", "9223372036854775810"),
        ("$states.input.id % 10", "3"),
        ("$states.input.ids[0] / 2", "308290811181699071"),
        ("$sum($states.input.ids)", "607574423108657150"),
        ("$sum([9007199254740992, 1])", "9007199254740993"),
        ("$power(3, 40)", "12157665459056928801"),
        ("$power(2, 62)", "4611686018427387904"),
        ("$abs(-4611686018427387904)", "4611686018427387904"),
        ("$reduce([9007199254740992, 1, 1, 1], function($a, $b) { $a + $b })", "9007199254740995"),
        ("$states.input.cheap * 2", "39.98"),
        ("$round($states.input.price, 3)", "0.123"),
        ("$states.input.third * 10", "3.0000000000000004"),
        ("1e10 * 1e10", "1e+20"),
        ("$states.input.huge + 1", "1e+20"),
        ("$number('9007199254740993')", "9007199254740993"),
        ("$number(' 1.5 ') + $number('0x1F')", "32.5"),
        ("$number('0.12345678901234568')", "0.12345678901234568"),
        ("$map(['9007199254740993', '2'], $number)", "[9007199254740993,2]"),
        ("$parse('{\"a\": [9007199254740993]}').a[0]", "9007199254740993"),
        ("9007199254740993", "9007199254740993"),
        ("[18446744073709551615, 0.12345678901234568]", "[18446744073709551615,0.12345678901234568]"),
        ("/* 9007199254740993 */ '9007199254740993' & `9007199254740993`", r#""9007199254740993""#),
        ("$replace('9007199254740993', /9007199254740993/, 'x') & 9007199254740993", r#""x9007199254740993""#),
        ("$range(1, 9, 9)", "1"),
        ("$range(1, 3, 1)", "[1,2,3]"),
        // Refused by name.
        ("$states.input.id + 0.5", "fails: 9007199254740993"),
        ("$states.input.id / 2", "fails: 9007199254740993"),
        ("$sqrt($states.input.id)", "fails: 9007199254740993"),
        ("$length($states.input.id)", "fails: 9007199254740993"),
        ("$substring($states.input.id, 0, 3)", "fails: 9007199254740993"),
        ("$contains($states.input.id, '9')", "fails: 9007199254740993"),
        ("$match($states.input.id, /9/)", "fails: 9007199254740993"),
        ("$states.input.id ~> $contains('9')", "fails: 9007199254740993"),
        ("$map($states.input.ids, $length)", "fails: 616581622363398142"),
        ("$map($states.input.ids, $substring(?, 0, 3))", "fails: 616581622363398142"),
        ("$states.input.ids.$substring(0, 3)", "fails: 616581622363398142"),
        ("$states.input.ids.$pad(30, '-')", "fails: 616581622363398142"),
        ("$states.input.ids.$length()", "fails: 616581622363398142"),
        ("$states.input.rows.$substring(n & id, 0, 4)", r#"["b900","a900"]"#),
        ("$states.input.rows.$substring(n & id, 14)", r#"["993","992"]"#),
        ("$uppercase($states.input.id)", "fails: 9007199254740993"),
        ("$join($states.input.ids)", "fails: 616581622363398142"),
        ("$formatNumber($states.input.id, '0')", "fails: 9007199254740993"),
        ("$formatInteger($states.input.id, '0')", "fails: 9007199254740993"),
        ("$formatBase($states.input.id, 16)", "fails: 9007199254740993"),
        ("$fromMillis($states.input.id)", "fails: 9007199254740993"),
        ("$hash($states.input.id, 'SHA-256')", "fails: 9007199254740993"),
        ("$states.input.rows^(id).n", "fails: 9007199254740993"),
        ("{ $states.input.id: 1 }", "fails: 9007199254740993"),
        ("$states.input.rows{ id: n }", "fails: 9007199254740993"),
        ("$range($states.input.id, $states.input.id, 1)", "fails: 9007199254740993"),
        ("[$states.input.id..$states.input.id]", "fails: 9007199254740993"),
        ("$average($states.input.ids)", "fails: 616581622363398142"),
        ("$states.input.max * $states.input.max", "fails: 64 bits"),
        ("$states.input.max + $states.input.max", "fails: 64 bits"),
        ("$power(10, 23)", "fails: 64 bits"),
        ("$number('12345678901234567890.12')", "fails: 12345678901234567890.12"),
        ("$parse('[12345678901234567890.12]')", "fails: 12345678901234567890.12"),
        ("$parseInteger('9007199254740993', '0')", "fails: $parseInteger"),
        ("$states.input.one + $states.input.id = 'x' + 1", "fails: T2001"),
        ("$states.input.id < 'x'", "fails: T2009"),
        ("$states.input.id < true", "fails: T2010"),
        ("$states.input.ids[$states.input.id]", "fails: no value"),
    ] {
        let is = said(&input, source);
        let right = match expected.strip_prefix("fails: ") {
            Some(part) => is.starts_with("fails") && is.contains(part),
            None => is == expected,
        };
        if !right {
            wrong.push(format!("{source}\n   is {is}\n   should be {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_number_that_no_road_keeps_is_refused_when_it_is_deployed() {
    for source in ["12345678901234567890.12", "$x + 18446744073709551616.5", "[1e-400]", "0.12345678901234567891"] {
        let why = Expression::new(source).expect_err(source);
        assert!(why.contains("as a text"), "{source}: {why}");
    }
}

#[test]
fn a_text_that_looks_like_a_numeral_is_none() {
    let input = json!({ "t": "\u{fdd0}12", "n": { "a": ["\u{fdd0}"] } });
    for source in ["$states.input.t & ''", "$string($states.input)", "$count($states.input.n.a)"] {
        assert!(said(&input, source).contains("U+FDD0"), "{source}");
    }
    // Nor one that would be one without its beginning, nor the name of a field.
    for input in [json!({ "t": "a\u{fdd0}5" }), json!({ "\u{fdd0}5": 1 }), json!({ "t": "x\"\u{fdd0}8\"" })] {
        for source in ["$substring($states.input.t, 1)", "$string([$states.input.t])", "$string($states.input)"] {
            assert!(said(&input, source).contains("U+FDD0"), "{source} of {input}");
        }
    }
    for source in ["$base64decode('77eQNQ==')", "$decodeUrlComponent('%EF%B7%905')", "['%EF%B7%905'].$decodeUrl($)"] {
        assert!(said(&json!({ "n": 9_007_199_254_740_993_u64 }), source).contains("U+FDD0"), "{source}");
    }
    assert_eq!(said(&json!({}), "$base64decode('YQ==')"), "\"a\"");
    assert!(Expression::new("'\u{fdd0}1'").is_err());
    assert_eq!(said(&input, "'\\uFDD0' & 'x'").split(':').next(), Some("fails"));
}

#[test]
fn a_variable_may_be_called_like_any_function() {
    let value = json!([3, 1, 3]);
    for name in [
        "abs",
        "append",
        "assert",
        "average",
        "base64decode",
        "base64encode",
        "boolean",
        "ceil",
        "contains",
        "count",
        "decodeUrl",
        "decodeUrlComponent",
        "distinct",
        "each",
        "encodeUrl",
        "encodeUrlComponent",
        "error",
        "eval",
        "exists",
        "filter",
        "floor",
        "formatBase",
        "formatInteger",
        "formatNumber",
        "fromMillis",
        "hash",
        "join",
        "keys",
        "length",
        "lookup",
        "lowercase",
        "map",
        "match",
        "max",
        "merge",
        "millis",
        "min",
        "not",
        "now",
        "number",
        "pad",
        "parse",
        "parseInteger",
        "partition",
        "power",
        "random",
        "range",
        "reduce",
        "replace",
        "reverse",
        "round",
        "shuffle",
        "sift",
        "single",
        "sort",
        "split",
        "spread",
        "sqrt",
        "string",
        "substring",
        "substringAfter",
        "substringBefore",
        "sum",
        "toMillis",
        "trim",
        "type",
        "uppercase",
        "uuid",
        "zip",
    ] {
        let variable = |asked: &str| (asked == name).then_some(&value);
        for (source, expected) in [
            (format!("${name}"), json!([3, 1, 3])),
            (format!("${name}[1]"), json!(1)),
            (format!("{{ 'v': ${name} }}"), json!({ "v": [3, 1, 3] })),
            (format!("$count(${name})"), json!(3)),
            (format!("$sum(${name}) + $max(${name})"), json!(10)),
            (format!("$distinct(${name})"), json!([3, 1])),
            (format!("$string(${name}) & 9007199254740993"), json!("[3,1,3]9007199254740993")),
        ] {
            let said = seeing(&Value::Null, &variable, &source);
            assert_eq!(said.as_ref().ok(), Some(&expected), "{source}: {said:?}");
        }
    }
    // Where the expression gives the name a value, it is that, and the variable elsewhere.
    let variable = |asked: &str| (asked == "sum").then_some(&value);
    let both = seeing(&Value::Null, &variable, "($f := function($sum) { $sum[0] }; [$f([7]), $f($sum), $count($sum)])");
    assert_eq!(both.unwrap(), json!([7, 3, 3]));
    // Without such a variable it is the function.
    assert_eq!(said(&json!([[1, 1], [2]]), "$map($states.input, $distinct)"), "[[1],[2]]");
    assert_eq!(said(&json!([[1, 1], [2]]), "$map($states.input, $sum)"), "[2,2]");
}

/// A number of 64 bits, most of them near where the engine's own end.
fn number() -> impl Strategy<Value = i128> {
    prop_oneof![
        any::<i64>().prop_map(i128::from),
        any::<u64>().prop_map(i128::from),
        (-40_i128..40).prop_map(|n| n + (1 << 53)),
        (-40_i128..40).prop_map(|n| n - (1 << 53)),
        (-40_i128..=0).prop_map(|n| n + i128::from(u64::MAX)),
        (0_i128..40).prop_map(|n| n + i128::from(i64::MIN)),
        -100_i128..100,
    ]
}

fn value(number: i128) -> Value {
    serde_json::from_str(&number.to_string()).unwrap()
}

proptest! {
    #[test]
    fn whole_numbers_are_exact_or_fail(a in number(), b in number()) {
        let input = json!({ "a": value(a), "b": value(b) });
        let ask = |source: &str| said(&input, source);
        prop_assert_eq!(ask("$states.input.a"), a.to_string());
        prop_assert_eq!(ask("{ 'x': [$states.input.a] }"), format!("{{\"x\":[{a}]}}"));
        prop_assert_eq!(ask("$string($states.input.a)"), format!("\"{a}\""));
        prop_assert_eq!(ask("$states.input.a & '/' & $states.input.b"), format!("\"{a}/{b}\""));
        prop_assert_eq!(ask("$string($states.input)"), json!(format!("{{\"a\":{a},\"b\":{b}}}")).to_string());
        prop_assert_eq!(ask("$number($string($states.input.a))"), a.to_string());
        prop_assert_eq!(ask("$parse($string($states.input)).b"), b.to_string());
        prop_assert_eq!(ask("$states.input.a = $states.input.b"), (a == b).to_string());
        prop_assert_eq!(ask("$states.input.a != $states.input.b"), (a != b).to_string());
        prop_assert_eq!(ask("$states.input.a < $states.input.b"), (a < b).to_string());
        prop_assert_eq!(ask("$states.input.a >= $states.input.b"), (a >= b).to_string());
        prop_assert_eq!(ask("$states.input.a in [$states.input.b]"), (a == b).to_string());
        prop_assert_eq!(ask("$max([$states.input.a, $states.input.b])"), a.max(b).to_string());
        prop_assert_eq!(ask("$count($distinct([$states.input.a, $states.input.b]))"), (1 + u8::from(a != b)).to_string());
        prop_assert_eq!(ask(&format!("{a} = $states.input.a")), "true");
        prop_assert_eq!(ask(&format!("[{b}]")), format!("[{b}]"));
        for (sign, exact) in [("+", a + b), ("-", a - b)] {
            let said = ask(&format!("$states.input.a {sign} $states.input.b"));
            prop_assert!(said.starts_with("fails") || same(&said, exact), "{a} {sign} {b} = {said}");
            prop_assert!(exact.abs() > i128::from(i64::MAX) || !said.starts_with("fails"), "{a} {sign} {b}: {said}");
        }
        let said = ask("$states.input.a * $states.input.b");
        prop_assert!(said.starts_with("fails") || a.checked_mul(b).is_some_and(|exact| same(&said, exact)), "{a} * {b} = {said}");
    }

    #[test]
    fn decimals_are_the_ones_that_were_written(text in "-?(0|[1-9][0-9]{0,12})\\.[0-9]{1,9}") {
        let written: Value = serde_json::from_str(&text).unwrap();
        prop_assume!(protocol::number::is_kept(&text));
        let input = json!({ "a": written });
        let asked = with(&input, "{ 'x': $states.input.a }").unwrap();
        prop_assert_eq!(asked["x"].as_f64(), input["a"].as_f64());
        let as_text = said(&input, "$string($states.input.a)");
        let figures = as_text.trim_matches('"');
        prop_assert_eq!(figures.parse::<f64>().ok(), text.parse::<f64>().ok(), "{} is {}", &text, figures);
        prop_assert_eq!(said(&input, "$states.input.a = $number($string($states.input.a))"), "true");
    }

    #[test]
    fn doubles_pass_as_they_are(double in any::<f64>().prop_filter("finite", |d| d.is_finite())) {
        let input = json!({ "a": double });
        for source in ["{ 'x': $states.input.a }.x", "[$states.input.a][0]", "$number($string($states.input.a))"] {
            let said = said(&input, source);
            prop_assert_eq!(said.parse::<f64>().ok(), Some(double), "{}: {}", source, said);
        }
    }
}

/// Whether a number as it is shown is this one; beyond 64 bits it may be shown in another way.
fn same(shown: &str, exact: i128) -> bool {
    shown == exact.to_string()
        || shown.parse::<f64>().is_ok_and(|float| float.abs() >= 9.2e18 && float as i128 == exact)
}
