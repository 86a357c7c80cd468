package natlab

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// results are all outcomes of this process.
var results = report{rows: map[reportKey][]outcome{}}

// A report collects outcomes. Safe for concurrent use.
type report struct {
	mu   sync.Mutex
	rows map[reportKey][]outcome
}

type reportKey struct {
	kinds kinds
	name  string // of a pair or a variant
}

func (r *report) add(k kinds, name string, out outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := reportKey{k, name}
	r.rows[key] = append(r.rows[key], out)
}

// cell sums up the outcomes of one row: "20/20, 4 (2..9) ms".
func (r *report) cell(k kinds, name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.rows[reportKey{k, name}]
	if len(all) == 0 {
		return ""
	}
	var good, bad []time.Duration
	for _, o := range all {
		if o.err == nil {
			good = append(good, o.took)
		} else {
			bad = append(bad, o.took)
		}
	}
	s := fmt.Sprintf("%d/%d", len(good), len(all))
	if len(good) > 0 {
		s += ", " + spread(good)
	}
	if len(bad) > 0 {
		s += "; fails after " + spread(bad)
	}
	return s
}

// spread is the median, minimum and maximum in milliseconds.
func spread(d []time.Duration) string {
	slices.Sort(d)
	ms := func(d time.Duration) string {
		if d < 10*time.Millisecond {
			return fmt.Sprintf("%.1f", d.Seconds()*1000)
		}
		return fmt.Sprintf("%.0f", d.Seconds()*1000)
	}
	return fmt.Sprintf("%s (%s..%s)", ms(d[len(d)/2]), ms(d[0]), ms(d[len(d)-1]))
}

// table has one row for each client's class and a column for each server's.
func (r *report) table(k kinds) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %v\n\n| client \\ server |", k)
	for _, c := range matrixClasses {
		fmt.Fprintf(&b, " %v |", c)
	}
	b.WriteString("\n|" + strings.Repeat(" --- |", len(matrixClasses)+1) + "\n")
	for _, client := range matrixClasses {
		fmt.Fprintf(&b, "| **%v** |", client)
		for _, server := range matrixClasses {
			fmt.Fprintf(&b, " %s |", cmp.Or(r.cell(k, pair{client, server}.String()), "-"))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// rowTable has a row for each name and a column for each combination.
func (r *report) rowTable(names []string, columns []kinds, published map[string]string) string {
	var b strings.Builder
	b.WriteString("| |")
	for _, k := range columns {
		fmt.Fprintf(&b, " %v |", k)
	}
	b.WriteString(" reference, as published |\n|" + strings.Repeat(" --- |", len(columns)+2) + "\n")
	for _, name := range names {
		fmt.Fprintf(&b, "| %s |", name)
		for _, k := range columns {
			fmt.Fprintf(&b, " %s |", cmp.Or(r.cell(k, name), "-"))
		}
		fmt.Fprintf(&b, " %s |\n", cmp.Or(published[name], "-"))
	}
	return b.String()
}

var allKinds = []kinds{{warren, warren}, {warren, javascript}, {javascript, warren}, {javascript, javascript}}

// published are the reference's results at both ends, of
// docs/spec/hyperdht-connect.md §16.3.
var published = map[string]string{
	"open to open":             "5/5, 17 (17..20)",
	"open to consistent":       "5/5, 17 (17..21)",
	"open to random":           "5/5, 18 (16..19)",
	"consistent to open":       "5/5, 17 (16..23)",
	"consistent to consistent": "5/5, 20 (19..26)",
	"consistent to random":     "11/11, 4200 (350..8500)",
	"random to open":           "5/5, 18 (16..21)",
	"random to consistent":     "12/12, 5300 (280..20200)",
	"random to random":         "0/5; fails after 23..27",
	"firewalled to firewalled": "3/3, 24..53",
	"remapping to remapping":   "3/3, 30..77",
	"full cone to full cone":   "3/3, 21",
	"consistent to one-to-one": "3/3, 17..21",
}

// markdown is what goes between the marks of the report's file.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d runs a pair. Successes, then median (minimum..maximum) milliseconds from dialling to open.\n\n", *runs)
	for _, k := range allKinds {
		b.WriteString(r.table(k) + "\n")
	}
	b.WriteString("### Beside the reference's published results\n\n")
	var names []string
	for name := range published {
		if strings.Contains(name, " to ") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	b.WriteString(r.rowTable(names, allKinds, published))
	return b.String()
}

const (
	reportBegin = "<!-- measured: written by make natlab -->\n"
	reportEnd   = "<!-- end of measured -->\n"
)

func (r *report) write(file string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, ok1 := bytes.Cut(old, []byte(reportBegin))
	_, tail, ok2 := bytes.Cut(rest, []byte(reportEnd))
	if !ok1 || !ok2 {
		return fmt.Errorf("%s lacks the lines %q and %q", file, reportBegin, reportEnd)
	}
	return os.WriteFile(file, slices.Concat(head, []byte(reportBegin+"\n"+r.markdown()+"\n"+reportEnd), tail), 0o644)
}

func TestMain(m *testing.M) {
	code := m.Run()
	if *write != "" {
		if err := results.write(*write); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}
