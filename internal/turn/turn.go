// Package turn has a lock for those who wait while they hold it, for the
// network or for a peer.
package turn

import "context"

// A Turn is held by one at a time, as a sync.Mutex is. But who waits for it can
// give up, and to package testing/synctest waits as for any channel: time goes
// on, which it would not while somebody waits for a sync.Mutex. Made by New.
type Turn chan struct{}

// New returns a Turn that nobody holds.
func New() Turn { return make(Turn, 1) }

// Lock waits until nobody holds it.
func (t Turn) Lock() { t <- struct{}{} }

// TryLock takes it if nobody holds it.
func (t Turn) TryLock() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

// LockContext waits for it no longer than ctx lasts, whose error it returns.
func (t Turn) LockContext(ctx context.Context) error {
	if t.TryLock() {
		return nil
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Unlock lets the next one have it. The caller must hold it.
func (t Turn) Unlock() {
	select {
	case <-t:
	default:
		panic("BUG: turn: unlocked by somebody who does not hold it")
	}
}
