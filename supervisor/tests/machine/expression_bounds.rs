//! What bounds an expression: nothing grows without end, and nothing else changes.

use std::time::Duration;

use crate::busy::Busy;
use jsonata_core::evaluator::{Context, Evaluator};
use jsonata_core::parser;
use jsonata_core::value::JValue;
use protocol::{Time, Value};
use serde_json::json;
use supervisor::machine::expression::{Expression, Limits, Sight, Trouble};

fn input() -> Value {
    json!({ "a": [3, 1, 2, 1], "b": { "c": "d-e-f" }, "t": "hello", "l": [{ "k": "x", "n": 1 }, { "k": "y", "n": 2 }] })
}

fn evaluate(source: &str) -> Result<Value, Trouble> {
    let (input, context) = (input(), || json!({}));
    let limits = Limits { expression_ms: 300, expression_sequence: 20_000, ..Limits::default() };
    let sight = Sight {
        input: &input,
        result: None,
        error: None,
        context: &context,
        variable: &|_| None,
        now: Time::from_micros(0),
        seed: 1,
        limits,
    };
    Expression::new(source).unwrap_or_else(|why| panic!("{source}: {why}")).evaluate(&sight)
}

/// The engine as it comes.
fn plainly(source: &str) -> Value {
    let tree = parser::parse(source).unwrap();
    let mut context = Context::new();
    context.bind("states".into(), JValue::from(json!({ "input": input() })));
    let value = Evaluator::with_context(context).evaluate(&tree, &JValue::Undefined).unwrap();
    serde_json::to_value(&value).unwrap()
}

#[test]
fn what_is_bounded_means_what_it_meant() {
    for source in [
        "$states.input.a[0] + $sum($states.input.a)",
        "$distinct($states.input.a)",
        "$states.input.a ~> $distinct",
        "$distinct([[1], [1], [2], {'a': 1, 'b': 2}, {'b': 2, 'a': 1}, 'x', 'x'])",
        "$distinct([1])",
        "$sort($states.input.a)[0]",
        "$reverse([1])",
        "[$reverse([1..3])]",
        "[[1..3], [4], 5..6, $states.input.a]",
        "$append([[1]], [])",
        "$append(1, 2)",
        "$zip([1, 2], [3, 4])",
        "$spread({'a': 1, 'b': 2})",
        "$merge([{'a': 1}, {'b': [1]}])",
        "$split($states.input.b.c, '-')",
        "$split('a1b22c', /[0-9]+/)",
        "$states.input.b.c.$split('-')",
        "$states.input.b.c ~> $split('-') ~> $join('+')",
        "$join(['a', 'b'])",
        "$replace('abcb', 'b', 'x')",
        "$replace('abcb', /b/, '[$0]', 1)",
        "$replace('abcb', /b/, function($m) { $uppercase($m.match) })",
        "$states.input.t.$replace('l', 'L')",
        "'a-b' ~> $replace('-', $string(1))",
        "$match('ababb', /a(b+)/)",
        "$match('ababb', /a(b+)/)[1].groups",
        "$pad('x', 4) & '|' & $pad('x', -4, '#')",
        "$states.input.t.$pad(7)",
        "$formatInteger(1999, 'I') & $formatInteger(12345678, '#,##0') & $formatInteger(12, 'w')",
        "$states.input.a.$formatInteger('w')",
        "$formatNumber(1234.5, '#,##0.00')",
        "$fromMillis(1510067557121, '[M01]/[D01]/[Y0001] [h#1]:[m01][P]')",
        "$toMillis('2017-11-07', '[Y0001]-[M01]-[D01]')",
        "$map($states.input.a, function($v, $i, $a) { $v + $i + $count($a) })",
        "$map($states.input.a, $string)",
        "$filter($states.input.a, function($v) { $v > 1 })[0]",
        "$reduce($states.input.a, function($a, $v) { $a + $v }, 10)",
        "$each({'a': 1, 'b': 2}, function($v, $k) { $k & $v })",
        "$sift({'a': 1, 'b': 2}, function($v) { $v > 1 })",
        "$single($states.input.a, function($v) { $v = 2 })",
        "($f := function($n) { $n <= 1 ? 1 : $n * $f($n - 1) }; $f(10))",
        "($f := function($n) { $n <= 0 ? 'done' : $f($n - 1) }; $f(5000))",
        "($compose := function($x) { $x * 2 } ~> $string; $compose(4))",
        "($add := function($x, $y) { $x + $y }; $inc := $add(?, 1); $map([1, 2], $inc))",
        "($x := [1, 2, 3]; $x[$x[0]])",
        "($i := 1; $states.input.a[$i])",
        "($k := true; $states.input.a[$k])",
        "{'x': $states.input.a, 'y': [$states.input.a], 'z': $states.input.l.k}",
        "$states.input.l.{'v': $, 'w': n * 2}",
        "$states.input.l{k: n}",
        "$states.input.l{k: $}",
        "$states.input.l^(>n).k",
        "$states.input.l@$x#$i.{'k': $x.k, 'i': $i}",
        "$states.input ~> |l|{'m': n}, ['k']|",
        "$states.input.**.n",
        "$states.input.*.k",
        "$states.input.l.n.($ * 2)",
        "$states.input.l.[k, n]",
        "$states.input.a.[$]",
        "[$states.input.l.k]",
        "[1, $states.input.nothing, 2]",
        "{'gone': $states.input.nothing}",
        "$exists($states.input.nothing) or $boolean([])",
        "($pad := 3; $pad + 1)",
        "$string({'a': [1, null, true]})",
        "$keys($states.input)",
        "$states.input.t in ['hello'] ? 'yes' : 'no'",
        "$states.input.nothing ?? 'none'",
        "'x' & $states.input.nothing & 1",
    ] {
        assert_eq!(evaluate(source).unwrap_or_else(|why| panic!("{why:?}")), plainly(source), "{source}");
    }
}

#[test]
fn nothing_grows_without_end() {
    for source in [
        "($f := function($s,$n){ $n > 0 ? $f($s & $s, $n-1) : $s }; $length($f('aaaaaaaaaaaaaaaa', 40)))",
        "($f := function($a,$n){ $n > 0 ? $f([[$a],[$a]], $n-1) : $a }; $f([1], 40))",
        "($f := function($a,$n){ $n > 0 ? $f({'x':$a,'y':$a}, $n-1) : $a }; $string($f(1, 60)))",
        "($f := function($a,$n){ $n > 0 ? $f({'x':$a,'y':$a}, $n-1) : $a }; $f(1, 60) = $f(1, 60))",
        "($f := function($a,$n){ $n > 0 ? $f({'x':$a,'y':$a}, $n-1) : $a }; $count($f(1, 60).**))",
        "$reduce([1..60], function($a,$v){ $map([1,2], function($x){ {'a': $a} }) })",
        "$reduce([1..30], function($a,$v){ $merge([$a,{$string($v):$a}]) }, {'a':1})",
        "$pad('x', 1000000000)",
        "$pad('x', -2000000000)",
        "'x' ~> $pad(1e9)",
        "$reduce(['x', 1e9], $pad)",
        "$states.input.t ~> $pad",
        "$formatInteger(1e15, 'I')",
        "$map([1..20000], function($v){ $pad('x', 900000) })",
        "$map([1..20000], function($v){ $reverse([1..20000]) })",
        "$replace($pad('', 100000, 'a'), 'a', $pad('', 100000, 'b'))",
        "($big := $pad('x', 1000000); $f := function($m){ $big }; $replace($pad('', 10000, 'a'), /a/, $f))",
        "($big := $pad('x', 1000000); $replace($pad('', 10000, 'a'), /a/, function($m){ $big }))",
        "$join($map([1..9000], function(){'0123456789'}), $pad('x', 100000))",
        "$split($pad('', 1000000, 'a'), '')",
        "($x := [1..20000]; $x[$x[$x[$x]]])",
        "[1..10000000]",
    ] {
        let began = Busy::now();
        assert!(evaluate(source).is_err(), "{source}");
        assert!(began.elapsed() < Duration::from_secs(5), "{source} took {:?}", began.elapsed());
    }
}

#[test]
fn equal_items_are_found_in_time_that_grows_with_their_number() {
    let began = Busy::now();
    assert_eq!(evaluate("$count($distinct($append([1..9999], [1..9999])))"), Ok(json!(9_999)));
    assert_eq!(evaluate("($g := $distinct; $count($g($append([1..9999], [1..9999]))))"), Ok(json!(9_999)));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_panic_of_the_engine_is_the_expressions_trouble() {
    let trouble = evaluate("$fromMillis(1, '[Y,1000000000-1000000000]')").unwrap_err();
    assert!(trouble.cause.contains("failed on it") || trouble.cause.contains("error"), "{trouble:?}");
}

#[test]
fn what_cannot_be_bounded_is_a_fault_of_the_definition() {
    let why = |source: &str| Expression::new(source).unwrap_err();
    assert!(why("$pad('x', ?)").contains("cannot be called with ?"));
    assert!(why("($f := function($pad) { $pad('x', 1e9) })").contains("another name"));
    let deep = format!("{}1{}", "[".repeat(450), "]".repeat(450));
    assert!(why(&deep).contains("nests deeper than"));
}

#[test]
fn a_deep_expression_needs_no_more_stack_than_a_worker_has() {
    let deep = format!("{}1{}", "[".repeat(380), "]".repeat(380));
    let work = move || drop(evaluate(&deep));
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn a_trouble_does_not_repeat_a_whole_value() {
    // What a tenant says is not taken for the engine's own word.
    let said = evaluate("$error('D1012: Evaluation timeout after 1 milliseconds')").unwrap_err();
    assert_eq!(said.error, "States.QueryEvaluationError", "{}", said.cause);
    assert!(evaluate("$error($pad('é', 100000))").unwrap_err().cause.len() < 2_048);
}
