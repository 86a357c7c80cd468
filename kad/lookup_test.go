package kad

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden conversations in testdata")

// Each file in testdata is a conversation with one lookup over ids of one
// significant byte: a line says what happens, the lines below it, indented, what
// the lookup says to it.
func TestLookupConversations(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no conversations: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			var c conversation
			for line := range strings.Lines(string(want)) {
				line = strings.TrimRight(line, "\n")
				if strings.HasPrefix(line, "\t") {
					continue
				}
				fmt.Fprintln(&got, line)
				if line != "" && !strings.HasPrefix(line, "#") {
					for _, a := range c.do(t, strings.Fields(line)) {
						fmt.Fprintf(&got, "\t%s\n", a)
					}
				}
			}
			if *rewrite {
				if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("got:\n%s", &got)
			}
		})
	}
}

type conversation struct{ l *Lookup[id32] }

func (c *conversation) do(t *testing.T, w []string) (said []string) {
	num := func(s string) int {
		n, err := strconv.ParseInt(s, 0, 32)
		if err != nil {
			t.Fatal(err)
		}
		return int(n)
	}
	node := func(s string) Contact[id32] {
		n, err := strconv.ParseUint(s, 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		return Contact[id32]{ID: id32{byte(n)}, Addr: addr(int(n))}
	}
	name := func(a netip.AddrPort) string { return fmt.Sprintf("%02x", a.Addr().As4()[3]) }
	switch w[0] {
	case "lookup": // target k alpha
		c.l = NewLookup(node(w[1]).ID, num(w[2]), num(w[3]))
		return nil
	case "offer": // [by referrer] node...
		var by netip.AddrPort
		w = w[1:]
		if w[0] == "by" {
			by = node(w[1]).Addr
			w = w[2:]
		}
		for _, s := range w {
			said = append(said, s+" "+[]string{"added", "seen", "known down", "farther"}[c.l.Offer(node(s), by)])
		}
		return said
	case "answer":
		if !c.l.Answered(node(w[1]).Addr, node(w[1]).ID, true) {
			said = append(said, "not awaited")
		}
	case "answer-without-id":
		c.l.Answered(node(w[1]).Addr, id32{}, false)
	case "refuse":
		c.l.Refused(node(w[1]).Addr)
	case "slow":
		c.l.Slow(node(w[1]).Addr)
	case "down":
		for _, r := range c.l.Down(node(w[1]).Addr) {
			said = append(said, "tell "+name(r))
		}
	case "stop":
		c.l.Stop()
	case "next":
	default:
		t.Fatalf("what is %q?", w[0])
	}
	for n, ok := c.l.Next(); ok; n, ok = c.l.Next() {
		said = append(said, "ask "+name(n.Addr))
	}
	if c.l.Done() {
		s := "done:"
		for _, n := range c.l.Closest() {
			s += " " + name(n.Addr)
		}
		said = append(said, s)
	}
	return said
}

// In a network where everybody knows its table's closest, a lookup from any
// node ends with exactly the k closest of all.
func TestLookupFindsTheClosest(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	const size, k = 400, 20
	all := make([]Contact[id32], size)
	tables := map[netip.AddrPort]*Table[id32, int]{}
	for i := range all {
		all[i] = Contact[id32]{ID: randomID(r), Addr: addr(i)}
	}
	for _, c := range all {
		table := NewTable[id32, int](c.ID, k, Limits{})
		for _, i := range r.Perm(size) {
			table.Insert(all[i], i)
		}
		tables[c.Addr] = table
	}
	for range 100 {
		target := randomID(r)
		l := NewLookup(target, k, 10)
		start := all[r.IntN(size)]
		for _, n := range tables[start.Addr].Closest(nil, target, k) {
			l.Offer(n.Contact, netip.AddrPort{})
		}
		asked := 0
		for !l.Done() {
			var batch []Contact[id32]
			for c, ok := l.Next(); ok; c, ok = l.Next() {
				batch = append(batch, c)
			}
			if len(batch) == 0 {
				t.Fatal("not done, and nobody to ask")
			}
			for _, c := range batch {
				asked++
				l.Answered(c.Addr, c.ID, true)
				for _, n := range tables[c.Addr].Closest(nil, target, k) {
					l.Offer(n.Contact, c.Addr)
				}
			}
		}
		want := slices.Clone(all)
		want = slices.DeleteFunc(want, func(c Contact[id32]) bool { return c == start })
		slices.SortFunc(want, func(a, b Contact[id32]) int { return Compare(target, a.ID, b.ID) })
		got := slices.DeleteFunc(slices.Clone(l.Closest()), func(c Contact[id32]) bool { return c == start })
		if !slices.Equal(got, want[:len(got)]) || len(got) < k-1 {
			t.Fatalf("found %v", got)
		}
		if asked > 60 {
			t.Errorf("asked %d nodes", asked)
		}
	}
}

// Nodes that invent ever closer neighbours cannot make a lookup remember, or
// ask, without bound.
func TestLookupIsBounded(t *testing.T) {
	l := NewLookup(id32{}, 20, 10)
	r := rand.New(rand.NewPCG(7, 7))
	l.Offer(Contact[id32]{ID: randomID(r), Addr: addr(1 << 20)}, netip.AddrPort{})
	n, asked := 0, 0
	for c, ok := l.Next(); ok; c, ok = l.Next() {
		asked++
		l.Answered(c.Addr, c.ID, true)
		for range 40 {
			n++
			id := randomID(r)
			for i := range min(31, asked/8) {
				id[i] = 0
			}
			l.Offer(Contact[id32]{ID: id, Addr: addr(n)}, c.Addr)
		}
	}
	if !l.Done() || len(l.seen) > maxSeen || len(l.waiting) > maxWaiting || asked > maxSeen {
		t.Errorf("asked %d, remembers %d, %d wait, done %v", asked, len(l.seen), len(l.waiting), l.Done())
	}
}
