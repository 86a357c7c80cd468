package main

import (
	"fmt"
	"os"
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

// The picture in the README shows the steps of today.
func TestPictureOfTheDemo(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/demo.svg")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), `class="step"`); n != len(demoSteps) {
		t.Errorf("docs/demo.svg shows %d of %d steps", n, len(demoSteps))
	}
	for i, s := range demoSteps {
		if step := fmt.Sprintf(`<tspan class="step">%d. %s:</tspan>`, i+1, s.title); !strings.Contains(string(b), step) {
			t.Errorf("docs/demo.svg does not show %q: make it anew (cmd/internal/demosvg)", s.title)
		}
	}
}
