package udx

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/internal/seq"
	"github.com/warren-dht/warren/udp"
)

// TestReplayCaptures puts a stream of ours in the place of each party of the
// captured conversations, at the captured times, and compares what it says with
// what the reference said: the numbered packets with their payloads, how far it
// acknowledged, whether it destroyed. Timing, coalesced acknowledgements and
// retransmissions are its own.
func TestReplayCaptures(t *testing.T) {
	// Parties that cut their data by what the path turned out to take cannot be
	// compared as senders, nor those that a script with a mind of its own faces.
	skip := map[string]string{
		"mtu_search_v4/a":          "packet sizes follow its own search",
		"mtu_probe_lost/a":         "packet sizes follow its own search",
		"dualstack_payload_size/a": "counts IPv6 overhead towards IPv4 peers",
		"end_with_data/a":          "Write does not wait for a CloseWrite to ride on its packet",
		"sack_max_blocks/a":        "see TestSACKBlocks",
	}
	ran := 0
	for _, sc := range loadCaptures(t).Scenarios {
		if len(sc.Packets) == 0 || len(sc.LocalIDs) != 2 {
			continue // relays: see TestRelayVectors
		}
		for _, me := range slices.Sorted(maps.Keys(sc.LocalIDs)) {
			name := sc.Name + "/" + me
			if me == "peer" || skip[name] != "" {
				continue
			}
			ran++
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { replay(t, sc, me) })
			})
		}
	}
	if ran < 30 {
		t.Errorf("only %d parties", ran)
	}
}

func replay(t *testing.T, sc scenario, me string) {
	var other string
	for name := range sc.LocalIDs {
		if name != me {
			other = name
		}
	}
	var mine, theirs []captured
	for _, p := range sc.Packets {
		if strings.HasPrefix(p.Dir, me+">") {
			mine = append(mine, p)
		} else {
			theirs = append(theirs, p)
		}
	}
	config := StreamConfig{ID: sc.LocalIDs[me]}
	var opts ConnectOptions
	switch sc.Name {
	case "start_seq_and_wrap", "tail_loss_probe": // these do not begin at 0
		config.Seq, opts.Ack = mine[0].Decoded.Seq, theirs[0].Decoded.Seq
	}
	mux := NewMux(Config{})
	defer mux.Close()
	conn := &wireConn{}
	s, err := mux.NewStream(config)
	if err != nil {
		t.Fatal(err)
	}
	s.ReceiveMessages()
	if err := s.Connect(conn, sc.LocalIDs[other], peerAddr, opts); err != nil {
		t.Fatal(err)
	}

	start := time.Now()
	done := map[seq.Number]bool{}
	for _, c := range sc.Packets {
		time.Sleep(time.Until(start.Add(time.Duration(c.Millis * float64(time.Millisecond)))))
		p, err := parsePacket(c.Hex)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(c.Dir, me+">") {
			if !c.Dropped {
				mux.HandleBatch(conn, []udp.Datagram{{Payload: slices.Clone(c.Hex), Peer: peerAddr}})
			}
			continue
		}
		switch {
		case p.flags&flagMessage != 0:
			s.SendMessage(p.payload)
		case p.flags&flagDestroy != 0:
			s.Destroy(nil)
		case p.flags&(flagData|flagEnd) != 0 && !done[p.seq]:
			done[p.seq] = true
			if len(p.payload) > 0 {
				if _, err := s.Write(p.payload); err != nil {
					t.Fatal(err)
				}
			}
			if p.flags&flagEnd != 0 {
				s.CloseWrite()
			}
		}
	}
	time.Sleep(20 * time.Second)
	synctest.Wait()

	got := summarize(t, conn)
	want := new(summary)
	for _, c := range mine {
		p, _ := parsePacket(c.Hex)
		want.add(p)
	}
	if g, w := got.String(), want.String(); g != w {
		t.Errorf("said\n%s, the reference\n%s", g, w)
	}
	// What the reference retried in vain ends in an answer here, or in the same
	// error.
	switch sc.Name {
	case "rto_timeout_no_rtt", "rto_timeout_with_rtt":
		if err := s.Err(); err != errTimedOut {
			t.Errorf("ended with %v", err)
		}
	}
}

// summary is what a party said, without repetitions.
type summary struct {
	numbered map[seq.Number]string
	ack      seq.Number
	acked    bool
	messages []string
	destroy  int
}

func (s *summary) add(p packet) {
	if s.numbered == nil {
		s.numbered = map[seq.Number]string{}
	}
	switch {
	case p.flags&flagMessage != 0:
		s.messages = append(s.messages, string(p.payload))
	case p.flags&flagDestroy != 0:
		s.destroy++
	case p.flags&flagEnd != 0 || p.flags&flagData != 0 && len(p.payload) > 0:
		e := fmt.Sprint(p.flags&(flagData|flagEnd), " ", string(p.payload))
		s.numbered[p.seq] = e
	}
	if !s.acked || s.ack.Less(p.ack) {
		s.ack, s.acked = p.ack, true
	}
}

func (s *summary) String() string {
	var list []string
	for n, e := range s.numbered {
		list = append(list, fmt.Sprint(n, " ", e))
	}
	slices.Sort(list)
	return fmt.Sprintf("%q ack %d messages %q destroy %d", list, s.ack, s.messages, s.destroy)
}

func summarize(t *testing.T, c *wireConn) *summary {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := new(summary)
	for _, d := range c.sent {
		p, err := parsePacket(d.Payload)
		if err != nil {
			t.Fatal(err)
		}
		s.add(p)
	}
	return s
}

// TestRelayVectors replays the captured relays: what goes in must come out with
// no more than the stream id changed.
func TestRelayVectors(t *testing.T) {
	addr := map[string]netip.AddrPort{"a": peerAddr, "b": otherAddr}
	for _, sc := range loadCaptures(t).Scenarios {
		if len(sc.LocalIDs) != 4 {
			continue
		}
		t.Run(sc.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mux := NewMux(Config{})
				defer mux.Close()
				conn := &wireConn{}
				open := func(name, peer string) *Stream {
					s, err := mux.NewStream(StreamConfig{ID: sc.LocalIDs[name]})
					if err != nil {
						t.Fatal(err)
					}
					if err := s.Connect(conn, sc.LocalIDs[peer], addr[peer], ConnectOptions{}); err != nil {
						t.Fatal(err)
					}
					return s
				}
				ra, rb := open("ra", "a"), open("rb", "b")
				if err := ra.RelayTo(rb); err != nil {
					t.Fatal(err)
				}
				if err := rb.RelayTo(ra); err != nil {
					t.Fatal(err)
				}
				var want []captured
				for _, p := range sc.Packets {
					from, to, _ := strings.Cut(p.Dir, ">")
					if to == "r" {
						mux.HandleBatch(conn, []udp.Datagram{{Payload: slices.Clone(p.Hex), Peer: addr[from]}})
					} else {
						want = append(want, p)
					}
				}
				synctest.Wait()
				conn.mu.Lock()
				defer conn.mu.Unlock()
				if len(conn.sent) != len(want) {
					t.Fatalf("%d packets relayed, want %d", len(conn.sent), len(want))
				}
				for i, d := range conn.sent {
					_, to, _ := strings.Cut(want[i].Dir, ">")
					if string(d.Payload) != string(want[i].Hex) || d.Peer != addr[to] {
						t.Errorf("packet %d to %v: %x\nwant %x", i, d.Peer, d.Payload, want[i].Hex)
					}
				}
				destroyed := sc.Name == "relay_destroy"
				if isOver(ra) || isOver(rb) {
					t.Error("the relay obeys a DESTROY that it cannot judge")
				}
				if destroyed {
					time.Sleep(relayPatience)
				}
				if isOver(ra) != destroyed || isOver(rb) != destroyed {
					t.Errorf("relay's streams are over: %v and %v, want %v", isOver(ra), isOver(rb), destroyed)
				}
			})
		})
	}
}
