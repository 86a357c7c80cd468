package hyperdht

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
)

func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newLimitedNet(t, 25, StoreLimits{RecordAge: 20 * time.Minute})
		ctx := tn.Context()
		var mu sync.Mutex
		changes := 0
		k := tn.nodes[3].NewKeeper(KeeperConfig{Every: 5 * time.Minute, Changed: func(Kept) { mu.Lock(); changes++; mu.Unlock() }})
		defer k.Close()
		record, _ := SignMutable(testKey(1), 5, []byte("mine"))
		tn.must("keep", k.KeepMutable(record))
		tn.must("keep", k.KeepImmutable([]byte("value")))
		forged := record
		forged.Seq++
		if err := k.KeepMutable(forged); !errors.Is(err, ErrBadSignature) {
			tn.Error(err)
		}
		time.Sleep(time.Second)
		for _, s := range k.List() {
			if s.Puts != 1 || s.Found != 0 || s.Replicas != dhtrpc.K || s.Err != nil || time.Until(s.Next) < 4*time.Minute {
				tn.Errorf("%+v", s)
			}
		}

		// Both live on for more than an hour, in nodes that forget in a third.
		time.Sleep(70 * time.Minute)
		if _, err := tn.nodes[9].ImmutableGet(ctx, Hash([]byte("value"))); err != nil {
			tn.Error(err)
		}
		r, err := tn.nodes[9].MutableGet(ctx, record.PublicKey, GetOptions{})
		tn.must("get", err)
		if r.Seq != 5 {
			tn.Errorf("seq %d", r.Seq)
		}
		s, _ := k.Get(record.Target())
		if s.Puts < 14 || s.Puts > 16 || s.Found < dhtrpc.K-1 || s.Replicas != dhtrpc.K {
			tn.Errorf("%+v", s)
		}

		// The owner puts a later one elsewhere: that one is kept from now on.
		_, _, err = tn.nodes[7].MutablePut(ctx, testKey(1), 6, []byte("later"), PutOptions{})
		tn.must("put", err)
		time.Sleep(6 * time.Minute)
		if s, _ := k.Get(record.Target()); s.Mutable.Seq != 6 || string(s.Value) != "later" || s.Err != nil {
			tn.Errorf("%+v", s)
		}
		// Or hands it to the keeper; an older one changes nothing.
		newest, _ := SignMutable(testKey(1), 7, []byte("newest"))
		tn.must("keep", k.KeepMutable(newest))
		tn.must("keep", k.KeepMutable(record))
		time.Sleep(time.Second)
		if r, err := tn.nodes[9].MutableGet(ctx, record.PublicKey, GetOptions{}); err != nil || r.Seq != 7 {
			tn.Errorf("seq %d, %v", r.Seq, err)
		}

		k.Forget(Hash([]byte("value")))
		if _, ok := k.Get(Hash([]byte("value"))); ok || len(k.List()) != 1 {
			tn.Error("not forgotten")
		}
		k.Close()
		if err := k.KeepImmutable(nil); !errors.Is(err, ErrKeeperClosed) {
			tn.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if changes < 30 {
			tn.Errorf("%d changes told", changes)
		}
	})
}

func TestKeeperRetries(t *testing.T) {
	inNet(t, 3, func(tn *recordsNet) {
		h := tn.net.Host()
		n := tn.add(h, nil, dhtrpc.Always)
		h.SetUp(false)
		k := n.NewKeeper(KeeperConfig{})
		defer k.Close()
		tn.must("keep", k.KeepImmutable([]byte("value")))
		time.Sleep(10 * time.Minute)
		s, _ := k.Get(Hash([]byte("value")))
		if s.Err == nil || s.Puts < 2 || s.Puts > 6 || time.Until(s.Next) > 10*time.Minute {
			tn.Errorf("%+v", s)
		}
		h.SetUp(true)
		time.Sleep(10 * time.Minute)
		if s, _ := k.Get(Hash([]byte("value"))); s.Err != nil || s.Replicas != 3 {
			tn.Errorf("%+v", s)
		}
	})
}

// When a node's Close returns its keepers do nothing any more.
func TestKeeperEndsWithItsNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 5)
		defer w.close()
		n := w.ready(w.net.Host(), Config{})
		k := n.NewKeeper(KeeperConfig{})
		if err := k.KeepImmutable([]byte("value")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Millisecond) // it is putting the value
		n.Close()
		if err := k.KeepImmutable(nil); !errors.Is(err, ErrKeeperClosed) {
			t.Error(err)
		}
		if err := n.NewKeeper(KeeperConfig{}).KeepImmutable(nil); !errors.Is(err, ErrKeeperClosed) {
			t.Error(err)
		}
		k.Close()
	})
}

// What came due while the machine slept is put when it wakes up, although the
// timer, which slept too, has not fired.
func TestKeeperAfterSleep(t *testing.T) {
	inNet(t, 5, func(tn *recordsNet) {
		n := tn.nodes[3]
		k := n.NewKeeper(KeeperConfig{})
		defer k.Close()
		tn.must("keep", k.KeepImmutable([]byte("value")))
		time.Sleep(time.Minute)
		target := Hash([]byte("value"))
		k.mu.Lock()
		if next := k.kept[target].Next; next != next.Round(0) {
			tn.Errorf("%v is not a time by the wall clock", next)
		}
		k.kept[target].Next = wallClock()
		k.mu.Unlock()
		tn.must("suspend", n.rpc.Suspend())
		tn.must("resume", n.rpc.Resume())
		time.Sleep(time.Minute)
		if s, _ := k.Get(target); s.Puts != 2 || s.Err != nil {
			tn.Errorf("%+v", s)
		}
	})
}
