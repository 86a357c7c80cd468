package natlab

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	write = flag.String("write", "", "file that gets the tables of a report")
	keep  = flag.String("keep", "", "file that keeps the outcomes: those in it are reported too, so that a report can be made in several runs")
)

// results are the outcomes of this process and those kept of others.
var results = report{rows: map[reportKey][]record{}}

// A report collects outcomes. Safe for concurrent use.
type report struct {
	mu   sync.Mutex
	rows map[reportKey][]record
	kept *os.File // or nil
	err  error    // of keeping
}

type reportKey struct{ Kinds, Name string } // the name is of a pair or a variant

// A record is what is reported of an outcome, and in a file a line of JSON.
type record struct {
	reportKey
	Took, Finally time.Duration `json:",omitempty"`
	Error         string        `json:",omitempty"`
}

func (r *report) add(k kinds, name string, out outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := record{reportKey: reportKey{k.String(), name}, Took: out.took, Finally: out.finally}
	if out.err != nil {
		line.Error = out.err.Error()
	}
	r.rows[line.reportKey] = append(r.rows[line.reportKey], line)
	if r.kept != nil && r.err == nil {
		r.err = json.NewEncoder(r.kept).Encode(line)
	}
}

// open reads the outcomes of former runs and keeps those of this one.
func (r *report) open(file string) (err error) {
	if r.kept, err = os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644); err != nil {
		return err
	}
	lines := json.NewDecoder(r.kept)
	for {
		var line record
		if err := lines.Decode(&line); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		r.rows[line.reportKey] = append(r.rows[line.reportKey], line)
	}
}

// cell sums up the outcomes of one row: "20/20, 4 (2..9) ms".
func (r *report) cell(k kinds, name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.rows[reportKey{k.String(), name}]
	if len(all) == 0 {
		return ""
	}
	var good, bad, finally []time.Duration
	for _, o := range all {
		switch {
		case o.Error != "":
			bad = append(bad, o.Took)
			continue
		case o.Finally > 0:
			finally = append(finally, o.Finally)
		}
		good = append(good, o.Took)
	}
	s := fmt.Sprintf("%d/%d", len(good), len(all))
	if len(good) > 0 {
		s += ", " + spread(good)
	}
	if len(finally) > 0 {
		s += "; direct after " + spread(finally)
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

// A row is one of the tables that show the reference's published results, of
// docs/spec/hyperdht-connect.md §16.3.
type row struct{ name, published string }

// rowTable has a line for each row and a column for each combination.
func (r *report) rowTable(title string, rows []row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n| |", title)
	for _, k := range allKinds {
		fmt.Fprintf(&b, " %v |", k)
	}
	b.WriteString(" reference, as published |\n|" + strings.Repeat(" --- |", len(allKinds)+2) + "\n")
	for _, row := range rows {
		fmt.Fprintf(&b, "| %s |", row.name)
		for _, k := range allKinds {
			fmt.Fprintf(&b, " %s |", cmp.Or(r.cell(k, row.name), "-"))
		}
		fmt.Fprintf(&b, " %s |\n", cmp.Or(row.published, "-"))
	}
	return b.String()
}

var allKinds = []kinds{{warren, warren}, {warren, javascript}, {javascript, warren}, {javascript, javascript}}

var anchors = []row{
	{"open to open", "5/5, 17 (17..20)"},
	{"open to consistent", "5/5, 17 (17..21)"},
	{"open to random", "5/5, 18 (16..19)"},
	{"consistent to open", "5/5, 17 (16..23)"},
	{"consistent to consistent", "5/5, 20 (19..26)"},
	{"consistent to random", "11/11, 4200 (350..8500)"},
	{"random to open", "5/5, 18 (16..21)"},
	{"random to consistent", "12/12, 5300 (280..20200)"},
	{"random to random", "0/5; fails after 23..27"},
	{"firewalled to firewalled", "3/3, 24..53"},
	{"remapping to remapping", "3/3, 30..77"},
	{"full cone to full cone", "3/3, 21"},
	{"consistent to one-to-one", "3/3, 17..21"},
}

var variants = []row{
	{"same host", "2/2, 32..37"},
	{"same LAN", ""},
	{"same LAN behind a random NAT", ""},
	{"two LANs, routed", "3/3, 23..26"},
	{"two LANs, isolated, hairpin", "3/3, 26..34"},
	{isolated, "0/3; fails after 10030"},
	{"no fast open", "3/3, 1025..1031"},
	{"10 % loss", "8/8; 21..57 five times, 1020..1070 three times"},
	{"20 % loss", "7/8, 20..4000; fails after 6050"},
	{"35 % loss", "2/5; fails after 5000..7000"},
	{"a DHT of the reference", ""},
	{"random to random, client's relay", "3/3, 53..203"},
	{"random to random, server's relay", "2/2, 53..203"},
	{"consistent to consistent with a relay", "17/20, 33..103"},
	{"consistent to random with a relay", "3/3, 35..70; direct after 1300, 2000, 5300"},
	{"random to consistent with a relay", ""},
}

// markdown is what goes between the marks of the report's file.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d runs a pair. Successes, then the median (minimum..maximum) of the milliseconds from dialling to open.\n\n", *runs)
	b.WriteString(r.rowTable("Beside what the reference's own measurement says", anchors) + "\n")
	b.WriteString(r.rowTable("Variants: neighbours behind one NAT, two consistent NATs in bad conditions, relays", variants))
	for _, k := range allKinds {
		b.WriteString("\n" + r.table(k))
	}
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
	flag.Parse()
	check := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if *keep != "" {
		check(results.open(*keep))
	}
	code := m.Run()
	check(results.err)
	if *write != "" {
		check(results.write(*write))
	}
	os.Exit(code)
}
