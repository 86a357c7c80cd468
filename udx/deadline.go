package udx

import (
	"sync"
	"time"
)

// A deadline makes readers or writers give up. Guarded by the stream's lock.
type deadline struct {
	expired bool
	timer   *time.Timer // runs while a deadline lies ahead
	set     int         // how often it was set: what an older timer says is void
}

// SetDeadline implements [net.Conn].
func (s *Stream) SetDeadline(t time.Time) error {
	s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetReadDeadline implements [net.Conn].
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.setDeadline(&s.reading, &s.readable, t)
	return nil
}

// SetWriteDeadline implements [net.Conn].
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.setDeadline(&s.writing, &s.writable, t)
	return nil
}

func (s *Stream) setDeadline(d *deadline, wake *sync.Cond, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.stop()
	d.expired = false
	if t.IsZero() || s.over {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.expired = true
		wake.Broadcast()
		return
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
}

// stop voids the deadline's timer.
func (d *deadline) stop() {
	d.set++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
