package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// Two packages as go test -json tells of them: one with a passing test, a
// skipped one and a subtest that fails, one that does not build.
const events = `{"Action":"start","Package":"a"}
{"Action":"run","Package":"a","Test":"TestGood"}
{"Action":"output","Package":"a","Test":"TestGood","Output":"not to be shown\n"}
{"Action":"pass","Package":"a","Test":"TestGood","Elapsed":0.1}
{"Action":"output","Package":"a","Test":"TestRoot","Output":"    a_test.go:9: not root\n"}
{"Action":"output","Package":"a","Test":"TestRoot","Output":"--- SKIP: TestRoot (0.00s)\n"}
{"Action":"skip","Package":"a","Test":"TestRoot","Elapsed":0}
{"Action":"pass","Package":"a","Test":"TestMany/one","Elapsed":0}
{"Action":"output","Package":"a","Test":"TestMany/two","Output":"    a_test.go:20: two is wrong\n"}
{"Action":"fail","Package":"a","Test":"TestMany/two","Elapsed":0}
{"Action":"fail","Package":"a","Test":"TestMany","Elapsed":0}
{"Action":"pass","Package":"a","Test":"TestTree/one","Elapsed":0}
{"Action":"pass","Package":"a","Test":"TestTree","Elapsed":0}
{"Action":"output","Package":"a","Output":"FAIL\n"}
{"Action":"fail","Package":"a","Elapsed":0.5}
{"ImportPath":"b","Action":"build-output","Output":"b.go:1: no such thing\n"}
{"ImportPath":"b","Action":"build-fail"}
{"Action":"start","Package":"b"}
{"Action":"fail","Package":"b","Elapsed":0,"FailedBuild":"b"}
{"Action":"output","Package":"c","Output":"?   c [no test files]\n"}
{"Action":"skip","Package":"c","Elapsed":0}
{"Action":"start","Package":"d"}
{"Action":"output","Package":"d","Test":"TestHang","Output":"panic: test timed out\n"}
{"Action":"fail","Package":"d","Elapsed":9}
{"Action":"start","Package":"e"}
`

func TestReadCountsLeaves(t *testing.T) {
	var out bytes.Buffer
	sum := &tally{out: &out, stage: "unit"}
	read(sum, strings.NewReader(events))
	ok := sum.report(false)
	if ok || sum.passed != 3 { // TestGood, TestMany/one, TestTree/one
		t.Errorf("passed %d, ok %v", sum.passed, ok)
	}
	if want := []string{"unit: a.TestMany/two", "unit: b", "unit: d", "unit: e: no result"}; !slices.Equal(sum.failed, want) {
		t.Errorf("failed %q, want %q", sum.failed, want)
	}
	if want := []skip{{"unit", "a.TestRoot", "not root", "a", "TestRoot"}}; !slices.Equal(sum.skips, want) {
		t.Errorf("skipped %q, want %q", sum.skips, want)
	}
	said := out.String()
	for _, want := range []string{"two is wrong", "b.go:1: no such thing", "panic: test timed out"} {
		if !strings.Contains(said, want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	if strings.Contains(said, "not to be shown") {
		t.Error("the output of a passing test is shown")
	}
	if !strings.HasSuffix(said, "\n3 passed, 4 failed, 1 skipped\n") {
		t.Errorf("the output ends with %q", said[max(0, len(said)-60):])
	}
}

func TestStrictReportRefusesSkips(t *testing.T) {
	sum := &tally{out: new(bytes.Buffer), stage: "interop"}
	sum.pass()
	if !sum.report(true) {
		t.Error("nothing was skipped")
	}
	sum.skip("the live peers", "node is not installed")
	if sum.report(true) || !sum.report(false) {
		t.Error("a skip must fail only the strict report")
	}
}

func TestTakeLeavesStages(t *testing.T) {
	sum := &tally{out: new(bytes.Buffer), stage: "unit"}
	sum.skip("the race detector", "no C compiler")
	sum.skipTest("a", "TestMemory", "the race detector needs memory of its own")
	sum.skipTest("a", "TestRoot", "not root")
	taken := sum.take(func(s skip) bool { return strings.Contains(s.reason, "race detector") })
	if len(taken) != 1 || taken[0].test != "TestMemory" || len(sum.skips) != 2 {
		t.Errorf("took %v, left %v", taken, sum.skips)
	}
}

func TestChoose(t *testing.T) {
	all, err := choose(nil)
	if err != nil || len(all) != len(stages) {
		t.Errorf("%d stages, %v", len(all), err)
	}
	some, err := choose([]string{"fuzz", "lint"})
	if err != nil || len(some) != 2 || some[0].name != "fuzz" {
		t.Errorf("%v, %v", some, err)
	}
	if _, err := choose([]string{"nonsense"}); err == nil {
		t.Error("a stage that does not exist was chosen")
	}
}

// What a command that succeeds says of its progress, as go does of downloads,
// is no part of what it was asked for.
func TestOutput(t *testing.T) {
	for _, tt := range []struct{ script, want string }{
		{"echo downloading >&2; echo result", "result"},
		{"echo half; echo reason >&2; exit 1", "half\nreason"},
	} {
		got, err := command{dir: ".", args: []string{"sh", "-c", tt.script}}.output()
		if got != tt.want || (err != nil) != strings.Contains(tt.script, "exit 1") {
			t.Errorf("%q: %q, %v", tt.script, got, err)
		}
	}
}
