package call

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Unix(1e9, 0)

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

func newTest(bits int) *Table[string] {
	return NewTable[string](rand.New(rand.NewPCG(1, 2)), bits)
}

// A call is transmitted retries+1 times (docs/spec/dht-rpc.md §5.3).
func TestRetries(t *testing.T) {
	tb := newTest(16)
	c, _ := tb.Add(start, 2, "x")
	if _, ok := tb.Deadline(); ok {
		t.Fatal("a call that was not transmitted has a deadline")
	}
	sent := 0
	for now := 0; now <= 5000; now += 100 {
		if sent == 0 {
			tb.Sent(c, at(now), at(now+1000))
			sent++
			continue
		}
		for c := range tb.Expired(at(now)) {
			if c.Exhausted() {
				tb.Remove(c)
				if now != 3000 || sent != 3 {
					t.Errorf("exhausted at %d ms after %d transmissions, want 3000 and 3", now, sent)
				}
				continue
			}
			tb.Sent(c, at(now), at(now+1000))
			sent++
		}
	}
	if !c.Done() || tb.Len() != 0 || tb.Get(c.TID) != nil {
		t.Error("the call is still in flight")
	}
	tb.Remove(c)
}

func TestTransactionIDsAreNotReused(t *testing.T) {
	tb := newTest(4)
	seen := map[uint16]bool{}
	for range 8 {
		c, ok := tb.Add(start, 0, "")
		if !ok || seen[c.TID] || c.TID > 15 {
			t.Fatalf("call %v, %v; seen %v", c, ok, seen)
		}
		seen[c.TID] = true
	}
	if _, ok := tb.Add(start, 0, ""); ok {
		t.Error("a full table took a call")
	}
	for c := range tb.All() {
		tb.Remove(c)
	}
	if _, ok := tb.Add(start, 0, ""); !ok || tb.Len() != 1 {
		t.Error("an emptied table refused a call")
	}
}

func TestExpiredLetsTheCallerChangeTheTable(t *testing.T) {
	tb := newTest(16)
	var cs []*Call[string]
	for i := range 5 {
		c, _ := tb.Add(start, 3, "")
		tb.Sent(c, start, at(i))
		cs = append(cs, c)
	}
	var got []*Call[string]
	for c := range tb.Expired(at(3)) {
		got = append(got, c)
		if c == cs[0] {
			tb.Remove(cs[1])
			tb.Sent(cs[0], at(3), at(100))
		}
	}
	if !slices.Equal(got, []*Call[string]{cs[0], cs[2], cs[3]}) {
		t.Errorf("expired %v", got)
	}
	if d, ok := tb.Deadline(); !ok || d != at(4) {
		t.Errorf("next deadline %v, want %v", d, at(4))
	}
	if !cs[2].Deadline().IsZero() || cs[0].Deadline() != at(100) {
		t.Error("deadlines of single calls are wrong")
	}
}

// The table agrees with a plain list under any sequence of operations.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tb := newTest(6)
		model := map[*Call[string]]int{} // deadline in ms, -1 if none runs
		var list []*Call[string]
		pick := func() *Call[string] {
			if len(list) == 0 {
				return nil
			}
			return list[rapid.IntRange(0, len(list)-1).Draw(t, "which")]
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				if c, ok := tb.Add(start, 1, ""); ok {
					model[c] = -1
					list = append(list, c)
				}
			},
			"sent": func(t *rapid.T) {
				if c := pick(); c != nil {
					d := rapid.IntRange(0, 50).Draw(t, "deadline")
					tb.Sent(c, start, at(d))
					model[c] = d
				}
			},
			"remove": func(t *rapid.T) {
				if c := pick(); c != nil {
					tb.Remove(c)
					delete(model, c)
					list = slices.DeleteFunc(list, func(x *Call[string]) bool { return x == c })
				}
			},
			"expire": func(t *rapid.T) {
				now := rapid.IntRange(0, 50).Draw(t, "now")
				last := -1
				for c := range tb.Expired(at(now)) {
					d, ok := model[c]
					if !ok || d < last || d > now {
						t.Fatalf("expired at %d after %d, now %d, known %v", d, last, now, ok)
					}
					last = d
					model[c] = -1
				}
			},
			"": func(t *rapid.T) {
				least := -1
				for c, d := range model {
					if tb.Get(c.TID) != c {
						t.Fatal("lost a call")
					}
					if d >= 0 && (least < 0 || d < least) {
						least = d
					}
				}
				d, ok := tb.Deadline()
				if ok != (least >= 0) || ok && d != at(least) {
					t.Fatalf("deadline %v %v, want %d", d, ok, least)
				}
				if tb.Len() != len(model) {
					t.Fatalf("%d calls, want %d", tb.Len(), len(model))
				}
			},
		})
	})
}

func TestRTT(t *testing.T) {
	var r RTT
	const ms = time.Millisecond
	if d := r.Late(ms, time.Second); d != time.Second {
		t.Errorf("late after %v though nothing is known", d)
	}
	for range 50 {
		r.Sample(40 * ms)
	}
	if d := r.Late(0, time.Second); d < 40*ms || d > 45*ms {
		t.Errorf("late after %v of answers that all take 40 ms", d)
	}
	if d := r.Late(250*ms, time.Second); d != 250*ms {
		t.Errorf("late after %v, want the least", d)
	}
	for i := range 100 {
		r.Sample(time.Duration(40+i%2*400) * ms)
	}
	if d := r.Late(0, 10*time.Second); d < 440*ms {
		t.Errorf("late after %v though half of the answers take 440 ms", d)
	}
}
