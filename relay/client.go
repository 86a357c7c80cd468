package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/warren-dht/warren/protomux"
)

// ErrPairing means that the client waits for an answer about the token already.
var ErrPairing = errors.New("relay: pairing with this token is under way")

// A Client asks a relay for pairs, on its connection with it. It is safe for
// concurrent use.
type Client struct {
	channel *protomux.Channel

	mu      sync.Mutex
	waiting map[Token]*request
}

// A request is a pairing that the relay has not answered.
type request struct {
	initiator bool
	answer    chan uint32 // has room
}

// NewClient opens the protocol on a connection with a relay. The id is the
// client's own public key on that connection.
func NewClient(mux *protomux.Mux, id []byte) (*Client, error) {
	c := &Client{waiting: make(map[Token]*request)}
	channel, err := mux.Channel(protomux.ChannelConfig{
		Protocol: Protocol,
		ID:       id,
		Messages: []func(*protomux.Channel, []byte) error{typePair: c.paired},
	})
	if err == nil {
		err = channel.Open(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("relay: opening the channel: %w", err)
	}
	c.channel = channel
	return c, nil
}

// Pair offers the UDX stream with the given id for the token and waits for the
// relay to find the other side, whose role is the other one. It returns the id
// of the relay's stream: connect the stream to it on the socket and with the
// remote address of the connection with the relay.
//
// If the context ends first the offer is withdrawn. If the relay refuses the
// protocol the error is [protomux.ErrRejected]; if it closes the channel,
// [protomux.ErrClosed].
func (c *Client) Pair(ctx context.Context, initiator bool, token Token, id uint32) (relayID uint32, err error) {
	r := &request{initiator: initiator, answer: make(chan uint32, 1)}
	c.mu.Lock()
	if c.waiting[token] != nil {
		c.mu.Unlock()
		return 0, ErrPairing
	}
	c.waiting[token] = r
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, token)
	}()

	m := pairMessage{initiator: initiator, token: token, id: id}
	if err := c.channel.Send(typePair, m.Append(nil)); err != nil {
		return 0, fmt.Errorf("relay: pairing: %w", err)
	}
	select {
	case id := <-r.answer:
		return id, nil
	case <-c.channel.Done():
		err := c.channel.WaitOpen(ctx)
		if err == nil {
			err = protomux.ErrClosed
		}
		return 0, fmt.Errorf("relay: pairing: %w", err)
	case <-ctx.Done():
		c.Unpair(token)
		return 0, fmt.Errorf("relay: pairing: %w", context.Cause(ctx))
	}
}

// paired takes the relay's answer. One that nobody waits for is ignored.
func (c *Client) paired(_ *protomux.Channel, payload []byte) error {
	m, err := parsePair(payload)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.waiting[m.token]; r != nil && r.initiator == m.initiator {
		select {
		case r.answer <- m.id:
		default: // the first answer counts
		}
	}
	return nil
}

// Unpair tells the relay to give up what it does, or is to do, for the token.
func (c *Client) Unpair(token Token) error {
	return c.channel.Send(typeUnpair, appendUnpair(nil, token))
}

// Done is closed when the channel is: the relay has no part in the client's
// streams any more.
func (c *Client) Done() <-chan struct{} { return c.channel.Done() }

// Close closes the channel, which ends all pairs. The connection stays open.
func (c *Client) Close() { c.channel.Close() }
