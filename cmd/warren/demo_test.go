package main

import (
	"strings"
	"testing"
)

func TestDemo(t *testing.T) {
	t.Parallel()
	type step struct {
		Step string
		OK   bool
		Ms   *float64
	}
	steps := lines[step](t, run(t, "demo", "--json"))
	if len(steps) != len(demoSteps) {
		t.Fatalf("%+v", steps)
	}
	for i, s := range steps {
		if s.Step != demoSteps[i].name || !s.OK || s.Ms == nil {
			t.Errorf("%+v", s)
		}
	}
	if o := execute(t, "demo").ok(t); strings.Count(o.stdout, "\n") != len(demoSteps) {
		t.Errorf("%s", o.stdout)
	}
}
