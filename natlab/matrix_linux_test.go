package natlab

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/warren-dht/warren/hyperdht"
)

var runs = flag.Int("runs", 1, "how often each pair connects")

// matrixClasses are those of which every pair is connected.
var matrixClasses = []Class{Open, OneToOne, Firewalled, FullCone, Consistent, Remapping, CarrierGrade, Random}

// reachable says whether everybody can reach hosts of the class.
func (c Class) reachable() bool { return c == Open || c == OneToOne }

// A pair of classes, the client's first.
type pair [2]Class

func (p pair) String() string { return fmt.Sprintf("%v to %v", p[0], p[1]) }

// want is the path that peers of the pair must find, 0 for none.
func (p pair) want() hyperdht.PathKind {
	switch {
	case p[0].reachable() || p[1].reachable():
		return hyperdht.PathDirect
	case p[0] == Random && p[1] == Random:
		return 0
	}
	return hyperdht.PathPunched
}

// slow says whether connecting the pair takes thousands of datagrams, hence
// seconds.
func (p pair) slow() bool { return p.want() == hyperdht.PathPunched && slices.Contains(p[:], Random) }

// check says what is wrong with an outcome of the pair.
func (p pair) check(out outcome, kinds kinds) error {
	want := p.want()
	if want == 0 {
		if out.err == nil {
			return fmt.Errorf("connected over %v", out.client)
		}
		if kinds[0] == warren && !errors.Is(out.err, hyperdht.ErrHolepunchDoubleRandom) {
			return out.err
		}
		return nil
	}
	if out.err != nil {
		return out.err
	}
	for i, got := range []hyperdht.PathKind{out.client, out.server} {
		// The reference misses sometimes that it is open behind a one-to-one
		// NAT (docs/spec/hyperdht-connect.md §16.1), and then it punches.
		missed := slices.Contains(p[:], OneToOne) && slices.Contains(kinds[:], javascript) && got == hyperdht.PathPunched
		if kinds[i] == warren && got != want && !missed {
			return fmt.Errorf("paths %v and %v, want %v", out.client, out.server, want)
		}
	}
	return nil
}

// Every class connects to every other, and takes the way that it should; two
// random NATs are told that they cannot.
func TestMatrix(t *testing.T) {
	w := newWorld(t, matrixClasses, warrenDHT)
	for _, k := range combinations() {
		t.Run(k.String(), func(t *testing.T) {
			w.scripts(t, k)
			var slow []pair
			for _, client := range matrixClasses {
				for _, server := range matrixClasses {
					if p := (pair{client, server}); p.slow() && *runs == 1 {
						slow = append(slow, p)
					} else {
						t.Run(p.String(), func(t *testing.T) {
							for range *runs {
								w.judge(t, p, k, w.connect(t, k, p))
							}
						})
					}
				}
			}
			// In a single run the slow ones share the time.
			w.reset()
			outs := make([]outcome, len(slow))
			var wg sync.WaitGroup
			for i, p := range slow {
				wg.Go(func() { outs[i] = w.tryPair(t.Context(), k, p) })
			}
			wg.Wait()
			for i, p := range slow {
				t.Run(p.String(), func(t *testing.T) { w.judge(t, p, k, outs[i]) })
			}
		})
	}
}

// judge fails the test if an outcome is not what it must be. A punch that looks
// for a port at random may look in vain; then once more is allowed.
func (w *world) judge(t *testing.T, p pair, k kinds, out outcome) {
	t.Helper()
	results.add(k, p.String(), out)
	err := p.check(out, k)
	if p.slow() && err != nil && !errors.Is(err, errLaboratory) {
		t.Logf("once more after %v: %v", out.took, err)
		out = w.connect(t, k, p)
		err = p.check(out, k)
	}
	if k == bothJavaScript {
		return // not ours to judge
	}
	if err != nil {
		t.Error(err)
	}
	t.Logf("%v, %v", out.took, out.client)
}
