package udx

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// strict lists the cases of input_responses in which this package answers
// otherwise than the reference, and how. DEVIATIONS.md says why.
var strict = map[string]struct {
	replies []string
	data    string
	later   bool // the application sees the end after resetPatience
}{
	"destroy_future_seq":        {replies: []string{"HEARTBEAT seq 1 ack 0"}, later: true},
	"data_far_future_seq":       {replies: []string{"ACK seq 1 ack 0"}},
	"data_seq_half_space_ahead": {replies: []string{"ACK seq 1 ack 0"}},
	// The reference cuts the datagram to 2048 bytes.
	"datagram_3000_bytes": {replies: []string{"ACK seq 1 ack 1"}, data: "all 2980 bytes"},
}

// TestInputResponses replays what a scripted peer sent to a stream of the
// reference, and compares the answers and what the application saw.
func TestInputResponses(t *testing.T) {
	var cases []inputCase
	for _, s := range loadCaptures(t).Scenarios {
		cases = append(cases, s.Cases...)
	}
	if len(cases) < 40 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			onWire(t, StreamConfig{}, func(w *wire) {
				w.s.ReceiveMessages()
				w.connect()
				w.write("A")
				w.want("the packet in flight", `DATA seq 0 ack 0 "A"`)
				var raw [][]byte
				for i, in := range c.Inputs {
					if i > 0 {
						time.Sleep(3 * time.Millisecond) // not one batch, as then
					}
					for _, d := range w.raw(peerAddr, in) {
						raw = append(raw, d.Payload)
					}
				}
				time.Sleep(5 * time.Millisecond)
				exception, isException := strict[c.Name]

				var got, want []string
				for _, p := range w.out() {
					got = append(got, show(p))
				}
				for _, r := range c.Replies {
					p, err := parsePacket(r.Hex)
					if err != nil {
						t.Fatal(err)
					}
					want = append(want, show(p))
				}
				if isException {
					if slices.Equal(got, want) && exception.data == "" {
						t.Error("the exception is none")
					}
					want = exception.replies
				}
				if !slices.Equal(got, want) {
					t.Errorf("replies\ngot  %q\nwant %q", got, want)
				}

				if len(raw) != len(c.Raw) {
					t.Errorf("%d datagrams handed on, want %d", len(raw), len(c.Raw))
				}
				for i := range min(len(raw), len(c.Raw)) {
					if !bytes.Equal(raw[i], c.Raw[i]) {
						t.Errorf("handed on %x", raw[i])
					}
				}

				if exception.later {
					if isOver(w.s) {
						t.Error("over at once")
					}
					time.Sleep(resetPatience)
				}
				if got, want := events(w), wantEvents(c, exception.data); !slices.Equal(got, want) {
					t.Errorf("events %q, want %q", got, want)
				}
				inflight := w.s.Stats().InFlight
				if wantNone := c.Finished.InFlight == 0 || c.Finished.Destroyed; (inflight == 0) != wantNone {
					t.Errorf("%d packets in flight, want none: %v", inflight, wantNone)
				}
			})
		})
	}
}

// events is what the application sees: data, messages, the end, an error.
func events(w *wire) (list []string) {
	var data []byte
	b := make([]byte, 4096)
	w.s.SetReadDeadline(time.Now().Add(time.Nanosecond))
	defer w.s.SetReadDeadline(time.Time{})
	n, err := w.s.Read(b)
	if n > 2048 {
		list = append(list, "all 2980 bytes")
	} else if data = append(data, b[:n]...); n > 0 {
		list = append(list, "data:"+string(data))
	}
	if err == nil {
		_, err = w.s.Read(b)
	}
	w.s.SetReadDeadline(time.Now().Add(time.Nanosecond))
	if n, merr := w.s.ReadMessage(b); merr == nil {
		list = append(list, "message:"+string(b[:n]))
	}
	switch {
	case err == io.EOF:
		list = append(list, "end")
	case errors.Is(err, syscall.ECONNRESET):
		list = append(list, "error:ECONNRESET", "close")
		if !isOver(w.s) {
			w.Error("not over after a DESTROY")
		}
	case !errors.Is(err, os.ErrDeadlineExceeded):
		w.Errorf("read: %v", err)
	}
	return list
}

func isOver(s *Stream) bool {
	synctest.Wait()
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

func wantEvents(c inputCase, data string) (list []string) {
	if data != "" {
		return []string{data}
	}
	for _, e := range c.Events {
		switch e[1] {
		case "data:": // an empty chunk: a Go reader sees nothing of it
		case "message:":
			list = append(list, "message:")
		default:
			kind, hexBytes, ok := bytes.Cut([]byte(e[1]), []byte(":"))
			if !ok || string(kind) == "error" {
				list = append(list, e[1])
				continue
			}
			payload := make([]byte, hex.DecodedLen(len(hexBytes)))
			hex.Decode(payload, hexBytes)
			list = append(list, string(kind)+":"+string(payload))
		}
	}
	return list
}
