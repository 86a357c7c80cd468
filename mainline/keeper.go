package mainline

import (
	"context"
	"errors"
	"time"
)

// How often things are put again (docs/spec/mainline.md §14, §15.5), and when
// after a failure.
const (
	keepItemEvery     = time.Hour
	keepAnnounceEvery = 15 * time.Minute
	keepRetryFirst    = 15 * time.Second
)

// Keep puts an item, and again each hour until the context ends, as nodes forget
// it after two; a put that no node accepted is tried again sooner. After each
// put it calls report, if that is not nil. It returns the context's error,
// [ErrClosed], or an [*Error] with [CodeSeqTooLow] when somebody has put a newer
// version. It is a procedure: run it in a goroutine of its own.
func (n *Node) Keep(ctx context.Context, item Item, report func(Stored, error)) error {
	if err := item.check(); err != nil {
		return err
	}
	return n.keep(ctx, keepItemEvery, report, func() (Stored, error) { return n.Put(ctx, item) })
}

// KeepAnnounced announces a peer, and again each quarter of an hour until the
// context ends. It is for announces what [Node.Keep] is for items.
func (n *Node) KeepAnnounced(ctx context.Context, infoHash ID, opts AnnounceOptions, report func(Stored, error)) error {
	if err := n.checkID(infoHash); err != nil {
		return err
	}
	return n.keep(ctx, keepAnnounceEvery, report, func() (Stored, error) { return n.Announce(ctx, infoHash, opts) })
}

func (n *Node) keep(ctx context.Context, every time.Duration, report func(Stored, error), put func() (Stored, error)) error {
	retry := keepRetryFirst
	for {
		st, err := put()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if report != nil {
			report(st, err)
		}
		wait := every
		var refused *Error
		switch {
		case errors.Is(err, ErrClosed):
			return err
		case errors.As(err, &refused) && refused.Code == CodeSeqTooLow:
			return err
		case err != nil:
			wait = min(retry, every)
			retry *= 2
		default:
			retry = keepRetryFirst
		}
		// A tenth earlier or later, lest all that began together stays so.
		n.mu.Lock()
		wait += time.Duration((n.rnd.Float64() - 0.5) / 5 * float64(wait))
		n.mu.Unlock()
		if err := n.sleep(ctx, wait); err != nil {
			return err
		}
	}
}
