package main

import "testing"

func TestTimeRanOut(t *testing.T) {
	for _, c := range []struct {
		said string
		want bool
	}{
		{"exit status 1\nfuzz: elapsed: 1m0s, execs: 849117 (0/sec), new interesting: 1 (total: 193)\n--- FAIL: FuzzParse (60.09s)\n    context deadline exceeded\nFAIL\nexit status 1\nFAIL\texample.org/p\t60.120s\n", true},
		{"--- FAIL: FuzzParse (0.02s)\n    --- FAIL: FuzzParse (0.00s)\n        p_test.go:9: context deadline exceeded\n    \n    Failing input written to testdata/fuzz/FuzzParse/1\nFAIL\n", false},
		{"--- FAIL: FuzzParse (0.02s)\n    context deadline exceeded\n    Failing input written to testdata/fuzz/FuzzParse/1\nFAIL\n", false},
		{"--- FAIL: FuzzParse (60.09s)\n    context deadline exceeded\nFAIL\nFailing input written to testdata/fuzz/FuzzParse/1\n", false},
		{"--- FAIL: TestParse (60.09s)\n    context deadline exceeded\nFAIL\n", false},
		{"fork/exec: no such file", false},
	} {
		if got := timeRanOut(c.said); got != c.want {
			t.Errorf("%v of %q", got, c.said)
		}
	}
}
