package hyperdht

import (
	"context"
	"sync"
	"time"
)

// Suspend stops the node for a while, as when an application goes to the
// background: listeners unannounce for as long as ctx allows, connections and
// dials end with ErrSuspended, sockets are closed. A second call does nothing.
func (n *Node) Suspend(ctx context.Context) error {
	n.pausing.Acquire(context.Background(), 1)
	defer n.pausing.Release(1)
	n.mu.Lock()
	if n.closed || n.suspended {
		defer n.mu.Unlock()
		if n.closed {
			return ErrClosed
		}
		return nil
	}
	n.suspended = true
	stop := n.stopDials
	listeners := n.listenersLocked()
	n.mu.Unlock()
	stop(ErrSuspended)
	var wg sync.WaitGroup
	for _, l := range listeners {
		wg.Go(func() { l.suspend(ctx) })
	}
	wg.Wait()
	n.mux.DestroyAll(ErrSuspended)
	err := n.rpc.Suspend()
	n.sockets.closeAll()
	return err
}

// Resume ends a suspension: sockets are bound again, on their old ports if they
// are free, and listeners are announced again, in the background. It waits for a
// Suspend that is under way. If it fails the node is still suspended.
func (n *Node) Resume() error {
	n.pausing.Acquire(context.Background(), 1)
	defer n.pausing.Release(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		return ErrClosed
	case !n.suspended:
		return nil
	}
	if err := n.rpc.Resume(); err != nil {
		return err
	}
	n.suspended = false
	n.dialsCtx, n.stopDials = context.WithCancelCause(n.ctx)
	if n.cfg.DeferRandomPunch {
		n.randomPunches.rest(time.Now())
	}
	for _, l := range n.listenersLocked() {
		l.resume()
	}
	return nil
}

// listenersLocked lists the listeners. n.mu is held.
func (n *Node) listenersLocked() (out []*Listener) {
	for l := range n.listeners {
		out = append(out, l)
	}
	return out
}

// suspend drops what is under way and unannounces.
func (l *Listener) suspend(ctx context.Context) {
	l.mu.Lock()
	l.suspended = true
	l.mu.Unlock()
	l.dropHandshakes(ErrSuspended)
	if l.announcer != nil {
		l.announcer.stop(ctx)
	}
}

func (l *Listener) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.suspended = false
	if l.announcer != nil && !l.closed {
		l.announcer.resume()
	}
}
