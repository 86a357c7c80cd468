package hyperdht

import (
	"context"
	"sync"
)

// ways runs the several ways to a peer at once. When all are over and the link
// is not attached, it cancels the dial with the last failure that a way
// returned.
type ways struct {
	cancel   context.CancelCauseFunc
	attached <-chan struct{}
	wg       sync.WaitGroup

	mu      sync.Mutex
	running int
	started bool // all ways have been started
	last    error
}

func newWays(cancel context.CancelCauseFunc, attached <-chan struct{}) *ways {
	return &ways{cancel: cancel, attached: attached, last: ErrHolepunchAborted}
}

// Go starts a way. It returns nil when it has led to a path or the dial ended.
func (w *ways) Go(f func() error) {
	w.mu.Lock()
	w.running++
	w.mu.Unlock()
	w.wg.Go(func() {
		err := f()
		w.mu.Lock()
		w.running--
		if err != nil {
			w.last = err
		}
		w.mu.Unlock()
		w.check()
	})
}

// settle says that no more ways will be started.
func (w *ways) settle() {
	w.mu.Lock()
	w.started = true
	w.mu.Unlock()
	w.check()
}

func (w *ways) check() {
	w.mu.Lock()
	over := w.started && w.running == 0
	err := w.last
	w.mu.Unlock()
	if !over {
		return
	}
	select {
	case <-w.attached:
	default:
		w.cancel(err)
	}
}

// Over is closed when all ways have ended.
func (w *ways) Over() <-chan struct{} {
	ch := make(chan struct{})
	go func() { w.wg.Wait(); close(ch) }()
	return ch
}

// Wait waits until all ways have ended.
func (w *ways) Wait() { w.wg.Wait() }
