// Package feed is a stream of events for one reader: whoever has an event puts
// it in without waiting, the reader takes them in order at its own pace, and one
// that is too slow misses some.
package feed

import (
	"context"
	"iter"
	"sync"
)

// A Feed holds the events that wait for its reader. Safe for concurrent use.
type Feed[E any] struct {
	mu    sync.Mutex
	queue []E
	ended bool
	wake  chan struct{} // room for one
}

// New returns an empty feed.
func New[E any]() *Feed[E] { return &Feed[E]{wake: make(chan struct{}, 1)} }

// Put adds an event if fewer than room of them wait.
func (f *Feed[E]) Put(e E, room int) {
	f.mu.Lock()
	if len(f.queue) < room {
		f.queue = append(f.queue, e)
	}
	f.mu.Unlock()
	f.signal()
}

// End adds the last event, for which there always is room.
func (f *Feed[E]) End(e E) {
	f.mu.Lock()
	f.queue = append(f.queue, e)
	f.ended = true
	f.mu.Unlock()
	f.signal()
}

func (f *Feed[E]) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *Feed[E]) take() (events []E, ended bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	events, f.queue = f.queue, nil
	return events, f.ended
}

// All yields the events until the last one, until the loop is left, or until ctx
// ends. Then, or when ctx ends without anybody reading, drop is called, perhaps
// twice.
func (f *Feed[E]) All(ctx context.Context, drop func()) iter.Seq[E] {
	stop := context.AfterFunc(ctx, drop)
	return func(yield func(E) bool) {
		defer stop()
		defer drop()
		for {
			events, ended := f.take()
			for _, e := range events {
				if ctx.Err() != nil || !yield(e) {
					return
				}
			}
			if ended {
				return
			}
			select {
			case <-f.wake:
			case <-ctx.Done():
				return
			}
		}
	}
}
