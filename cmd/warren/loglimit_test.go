package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/noise"
)

// A refusal is a line about a key that may not connect.
type refusal struct {
	Level, Msg, ClaimedPublicKey, From string
	Suppressed                         int
}

func refusalsIn(t *testing.T, log string) (all []refusal, suppressed int) {
	t.Helper()
	for line := range strings.Lines(log) {
		var r refusal
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if !strings.Contains(r.Msg, "refused") {
			continue // what happens to the node
		}
		if r.Level != "INFO" || (r.ClaimedPublicKey == "") != (r.Suppressed > 0) {
			t.Errorf("%s", line)
		}
		all = append(all, r)
		suppressed += r.Suppressed
	}
	return all, suppressed
}

// Each key that is refused gets one line, few keys in a minute do, and none is
// forgotten in the count; memory stays bounded.
func TestRefusedKeysAreLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		limit := newLineLimit(slog.New(slog.NewJSONHandler(&log, nil)), slog.LevelInfo, "refused")
		friend := noise.PublicKey{1}
		allow := (&policy{keys: map[noise.PublicKey]bool{friend: true}}).allow(limit)
		from := netip.MustParseAddrPort("203.0.113.5:1000")
		ask := func(key noise.PublicKey) error {
			return allow(context.Background(), hyperdht.Incoming{RemotePublicKey: key, Addr: from})
		}
		stranger := func() (key noise.PublicKey) { rand.Read(key[:]); return key }

		// A few, again and again.
		few := []noise.PublicKey{stranger(), stranger(), stranger()}
		for range 10 {
			for _, key := range few {
				if ask(key) == nil || ask(friend) != nil {
					t.Fatal("the policy is not obeyed")
				}
			}
			time.Sleep(limitPeriod / 5)
		}
		time.Sleep(limitPeriod)
		synctest.Wait()
		lines, suppressed := refusalsIn(t, log.String())
		for i, key := range few {
			if lines[i].ClaimedPublicKey != key.String() || lines[i].From != from.String() {
				t.Errorf("%+v, want %v", lines[i], key)
			}
		}
		if len(lines) > len(few)+3 || suppressed != 30-len(few) {
			t.Errorf("%d lines, %d suppressed: %s", len(lines), suppressed, &log)
		}

		// A flood.
		log.Reset()
		for range 1000 {
			ask(stranger())
		}
		time.Sleep(limitPeriod)
		synctest.Wait()
		if lines, suppressed = refusalsIn(t, log.String()); len(lines) != limitLines+1 || suppressed != 1000-limitLines {
			t.Errorf("%d lines, %d suppressed", len(lines), suppressed)
		}

		// For hours.
		log.Reset()
		const minutes, each = 3 * limitKeys / limitLines, 30
		for range minutes {
			for range each {
				ask(stranger())
			}
			time.Sleep(limitPeriod)
			synctest.Wait()
			if len(limit.seen) > limitKeys {
				t.Fatalf("%d keys are remembered", len(limit.seen))
			}
		}
		lines, suppressed = refusalsIn(t, log.String())
		if n := len(lines); n != minutes*(limitLines+1) || suppressed != minutes*(each-limitLines) {
			t.Errorf("%d lines, %d suppressed", n, suppressed)
		}

		// What is not reported yet is at the end, and only where the operator asked for it.
		log.Reset()
		for range 2 * limitLines {
			ask(stranger())
		}
		limit.end()
		if _, suppressed = refusalsIn(t, log.String()); suppressed != limitLines {
			t.Errorf("%d suppressed at the end", suppressed)
		}
		log.Reset()
		quiet := newLineLimit(slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})), slog.LevelInfo, "refused")
		quiet.line("x")
		quiet.end()
		if log.Len() > 0 || len(quiet.seen) > 0 || quiet.period != nil {
			t.Errorf("%s", &log)
		}
	})
}

// An operator who asks for info sees whom --allow has kept out.
func TestRefusalsOfListen(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 5)
	var me, stranger, other keyLine
	for _, k := range []*keyLine{&me, &stranger, &other} {
		run(t, "keygen", "--json").decode(t, k)
	}
	d := n.start("listen", "--echo", "--seed", hex32, "--allow", me.PublicKey, "--log-level=info")
	d.event("listening", nil)
	for _, k := range []keyLine{stranger, other, stranger} {
		if o := n.run("connect", keyHex, "--seed", k.Seed); o.status != 1 {
			t.Errorf("%+v", o)
		}
	}
	if got, _ := n.connect("hello", keyHex, "--seed", me.Seed); got != "hello" {
		t.Errorf("%q", got)
	}
	d.stop()
	lines, suppressed := refusalsIn(t, d.stderr.String())
	if len(lines) != 3 || lines[0].ClaimedPublicKey != stranger.PublicKey || lines[1].ClaimedPublicKey != other.PublicKey || suppressed < 1 {
		t.Errorf("%s", d.stderr)
	}
}
