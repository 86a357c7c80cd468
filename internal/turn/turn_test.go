package turn

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestOneAtATime(t *testing.T) {
	turn := New()
	n := 0
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			turn.Lock()
			defer turn.Unlock()
			n++
		})
	}
	wg.Wait()
	if n != 100 {
		t.Errorf("counted %d", n)
	}
	if !turn.TryLock() || turn.TryLock() {
		t.Error("held by nobody, or by two")
	}
	turn.Unlock()
	defer func() {
		if recover() == nil {
			t.Error("unlocked by nobody")
		}
	}()
	turn.Unlock()
}

// Who holds it may sleep while another waits.
func TestTimeGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := New()
		began := time.Now()
		turn.Lock()
		go func() { time.Sleep(time.Minute); turn.Unlock() }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := turn.LockContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while it is held: %v", err)
		}
		turn.Lock()
		if d := time.Since(began); d != time.Minute {
			t.Errorf("held after %v", d)
		}
		turn.Unlock()
		if err := turn.LockContext(ctx); err != nil {
			t.Errorf("held by nobody: %v", err)
		}
	})
}
