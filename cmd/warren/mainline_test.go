package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hex20 is an info-hash.
const hex20 = "0303030303030303030303030303030303030303"

type hostPort struct {
	Host string
	Port int
	ID   string
}

func (a hostPort) String() string { return fmt.Sprintf("%s:%d", a.Host, a.Port) }

type itemLine struct {
	Target, PublicKey, Signature string
	Seq                          *int64
	Acks                         int
	Value, ValueHex              *string
	From                         *hostPort
}

func TestMainline(t *testing.T) {
	t.Parallel()
	loop := "--host=127.0.0.1"
	state := filepath.Join(t.TempDir(), "state.json")
	var first nodeEvent
	d := start(t, "mainline", "node", loop, "--bootstrap=none", "--state", state)
	d.event("listening", &first)
	d.event("ready", nil)
	bootstrap := "--bootstrap=" + first.addr()
	for range 9 {
		d := start(t, "mainline", "node", loop, bootstrap)
		d.event("ready", nil)
	}
	mainline := func(args ...string) outcome {
		t.Helper()
		return run(t, append([]string{"mainline", args[0], "--json", loop, bootstrap}, args[1:]...)...)
	}

	var pong struct {
		From  hostPort
		ID    string
		RTTMs float64
	}
	mainline("ping", first.addr()).decode(t, &pong)
	if pong.ID != first.ID || pong.From.Port != first.Port || pong.RTTMs <= 0 {
		t.Errorf("%+v", pong)
	}
	if found := lines[hostPort](t, mainline("find", first.ID)); len(found) != 8 || found[0].ID != first.ID {
		t.Errorf("found %+v", found)
	}

	// Peers.
	if o := mainline("lookup", hex20); o.status != 1 || !strings.Contains(o.stderr, "knows a peer") {
		t.Errorf("%+v", o)
	}
	var announced struct {
		Event, InfoHash string
		Acks            int
	}
	mainline("announce", hex20, "--once", "--port", "4321").decode(t, &announced)
	if announced.Event != "announced" || announced.InfoHash != hex20 || announced.Acks != 8 {
		t.Errorf("%+v", announced)
	}
	peers := lines[hostPort](t, mainline("lookup", hex20))
	if len(peers) != 1 || peers[0].String() != "127.0.0.1:4321" {
		t.Errorf("peers %+v", peers)
	}

	// Items.
	var put, got itemLine
	mainline("put", "an item").decode(t, &put)
	mainline("get", put.Target).decode(t, &got)
	if got.Value == nil || *got.Value != "an item" || put.Acks != 8 || got.From == nil || got.Seq != nil {
		t.Errorf("put %+v, got %+v", put, got)
	}
	runWith(t, "\x00\xff", "mainline", "put", "--json", loop, bootstrap, "-").decode(t, &put)
	got = itemLine{}
	mainline("get", put.Target).decode(t, &got)
	if got.Value != nil || got.ValueHex == nil || *got.ValueHex != "00ff" {
		t.Errorf("from stdin: %+v", got)
	}
	if o := mainline("get", hex20); o.status != 1 || !strings.Contains(o.stderr, "not found") {
		t.Errorf("%+v", o)
	}
	for seq := int64(1); seq <= 2; seq++ {
		put, got = itemLine{}, itemLine{}
		mainline("put", "--mutable", "--seed", hex32, "--salt", "s", fmt.Sprint("version ", seq)).decode(t, &put)
		mainline("get", "--salt", "s", put.Target).decode(t, &got)
		if *got.Seq != seq || *got.Value != fmt.Sprint("version ", seq) || got.PublicKey != keyHex || got.Signature != put.Signature {
			t.Errorf("put %+v, got %+v", put, got)
		}
		mainline("get", "--mutable", "--salt", "s", keyHex).decode(t, &got)
		if *got.Seq != seq {
			t.Errorf("by key: %+v", got)
		}
	}
	mutable := []string{"put", "--mutable", "--seed", hex32, "--salt", "s", "x"}
	if o := mainline(append(mutable, "--seq", "1")...); o.status != 1 || !strings.Contains(o.stderr, "302") {
		t.Errorf("an old version: %+v", o)
	}
	if o := mainline(append(mutable, "--cas", "7")...); o.status != 1 || !strings.Contains(o.stderr, "301") {
		t.Errorf("a wrong cas: %+v", o)
	}
	mainline(append(mutable, "--cas", "2", "--seq", "9")...).decode(t, &put)

	// Who stays announces until it is stopped.
	stay := start(t, "mainline", "announce", loop, bootstrap, strings.Repeat("04", 20))
	stay.event("announced", &announced)
	if peers := lines[hostPort](t, mainline("lookup", strings.Repeat("04", 20))); len(peers) != 1 || peers[0].Port == 0 {
		t.Errorf("of an implied port: %+v", peers)
	}
	stay.stop()

	// A node comes back as the same.
	d.stop()
	if b, err := os.ReadFile(state); err != nil || !strings.Contains(string(b), first.ID) {
		t.Errorf("state: %s, %v", b, err)
	}
	again := start(t, "mainline", "node", loop, "--bootstrap=none", "--state", state)
	var second nodeEvent
	again.event("ready", &second)
	if second.ID != first.ID {
		t.Errorf("id %s became %s", first.ID, second.ID)
	}
}

func TestMainlineUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		names string
		args  []string
	}{
		{"INFOHASH", []string{"lookup"}},
		{"INFOHASH", []string{"lookup", hex32}},
		{"INFOHASH", []string{"announce", "xyz"}},
		{"TARGET", []string{"find", "12"}},
		{"TARGET", []string{"get", hex32}},
		{"not a public key", []string{"get", "--mutable", hex20}},
		{"--mutable", []string{"put", "--seq", "1", "x"}},
		{"--mutable", []string{"put", "--seed", hex32, "x"}},
		{"--seed", []string{"put", "--mutable", "--seed", "12", "x"}},
		{"--seq", []string{"put", "--mutable", "--seq", "-1", "x"}},
		{"--salt", []string{"put", "--mutable", "--salt", strings.Repeat("s", 65), "x"}},
		{"VALUE", []string{"put", strings.Repeat("v", 1000)}},
		{"--host", []string{"node", "--host", "here"}},
		{"--state", []string{"node", "--state", program}},
		{"--bootstrap", []string{"node", "--bootstrap", "x:y"}},
	} {
		o := run(t, append([]string{"mainline"}, tt.args...)...)
		if o.status != 2 || o.stdout != "" || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, tt.names) {
			t.Errorf("%q: status %d, want 2 and one line that names %s:\n%s%s", tt.args, o.status, tt.names, o.stdout, o.stderr)
		}
	}
	if o := runWith(t, strings.Repeat("x", 1001), "mainline", "put", "-"); o.status != 2 || !strings.Contains(o.stderr, "stdin") {
		t.Errorf("a value that is too long: %+v", o)
	}
	if _, err := hex.DecodeString(hex20); err != nil {
		t.Fatal(err)
	}
}
