package main

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Bounds of a lineLimit.
const (
	limitPeriod = time.Minute
	limitLines  = 20   // in a period
	limitKeys   = 1024 // that are remembered
)

// A lineLimit bounds the log lines of one kind: what they report can be caused by
// strangers, as often as they like. Each key gets one line as long as it is
// remembered, and all keys together get limitLines in a limitPeriod. At the end of
// a period one more line says how many were suppressed. Memory is bounded by
// limitKeys keys. It is safe for concurrent use.
type lineLimit struct {
	log     *slog.Logger
	level   slog.Level
	message string

	mu         sync.Mutex
	seen       map[string]bool // keys that have their line
	lines      int             // in this period
	suppressed int             // in this period
	period     *time.Timer     // ends it; nil: none has begun
}

func newLineLimit(log *slog.Logger, level slog.Level, message string) *lineLimit {
	return &lineLimit{log: log, level: level, message: message, seen: map[string]bool{}}
}

// line logs a line about a key, or counts it. An empty key stands for none: such
// lines are only bounded in number.
func (l *lineLimit) line(key string, attrs ...slog.Attr) {
	if !l.log.Enabled(context.Background(), l.level) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.period == nil {
		l.period = time.AfterFunc(limitPeriod, l.end)
	}
	if l.lines == limitLines || l.seen[key] {
		l.suppressed++
		return
	}
	if key != "" {
		if len(l.seen) == limitKeys {
			clear(l.seen)
		}
		l.seen[key] = true
	}
	l.lines++
	l.log.LogAttrs(context.Background(), l.level, l.message, attrs...)
}

// end ends a period, if one has begun, and says how many of its lines were
// suppressed.
func (l *lineLimit) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.period == nil {
		return
	}
	l.period.Stop()
	l.period = nil
	if l.suppressed > 0 {
		l.log.LogAttrs(context.Background(), l.level, l.message, slog.Int("suppressed", l.suppressed))
	}
	l.lines, l.suppressed = 0, 0
}
