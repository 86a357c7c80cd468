package udx

import (
	"net"
	"sync"
	"time"
)

// A deadline makes readers or writers give up. Guarded by the stream's lock.
type deadline struct {
	expired bool
	timer   *time.Timer // runs while a deadline lies ahead
	set     int         // how often it was set: what an older timer says is void
}

// SetDeadline implements [net.Conn]. Like the two others it fails after Close or
// Destroy.
func (s *Stream) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

// SetReadDeadline implements [net.Conn].
func (s *Stream) SetReadDeadline(t time.Time) error {
	return s.setDeadline(&s.reading, &s.readable, t)
}

// SetWriteDeadline implements [net.Conn].
func (s *Stream) SetWriteDeadline(t time.Time) error {
	return s.setDeadline(&s.writing, &s.writable, t)
}

func (s *Stream) setDeadline(d *deadline, wake *sync.Cond, t time.Time) error {
	s.mu.Lock()
	if s.closed {
		return s.fail("set", net.ErrClosed)
	}
	defer s.mu.Unlock()
	d.stop()
	d.expired = false
	if t.IsZero() || s.over {
		return nil
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.expired = true
		wake.Broadcast()
		return nil
	}
	mine := d.set
	d.timer = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if d.set == mine {
			d.expired, d.timer = true, nil
			wake.Broadcast()
		}
	})
	return nil
}

// stop voids the deadline's timer.
func (d *deadline) stop() {
	d.set++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
