package protomux_test

import (
	"context"
	"fmt"
	"net"

	"github.com/warren-dht/warren/protomux"
	"github.com/warren-dht/warren/secretstream"
)

// connect returns both ends of an encrypted stream.
func connect() (client, server *secretstream.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	done := make(chan *secretstream.Conn)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			panic(err)
		}
		c, err := secretstream.Server(context.Background(), raw, secretstream.Config{})
		if err != nil {
			panic(err)
		}
		done <- c
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		panic(err)
	}
	if client, err = secretstream.Client(context.Background(), raw, secretstream.Config{}); err != nil {
		panic(err)
	}
	return client, <-done
}

// A protocol of two messages: a question (type 0) and its answer (type 1).
func Example() {
	near, far := connect()

	// One side answers whoever opens a channel "capitals".
	server := protomux.New(far)
	server.Pair("capitals", nil, func(*protomux.Offer) {
		c, err := server.Channel(protomux.ChannelConfig{
			Protocol: "capitals",
			Messages: []func(*protomux.Channel, []byte) error{
				func(c *protomux.Channel, country []byte) error {
					return c.Send(1, []byte(map[string]string{"Peru": "Lima"}[string(country)]))
				},
			},
		})
		if err == nil {
			c.Open(nil)
		}
	})
	go server.Run()

	// The other one asks.
	answers := make(chan string, 1)
	client := protomux.New(near)
	c, err := client.Channel(protomux.ChannelConfig{
		Protocol: "capitals",
		Messages: []func(*protomux.Channel, []byte) error{
			nil,
			func(_ *protomux.Channel, capital []byte) error {
				answers <- string(capital)
				return nil
			},
		},
	})
	if err != nil {
		panic(err)
	}
	go client.Run()
	c.Open(nil)
	c.Send(0, []byte("Peru"))
	fmt.Println(<-answers)
	client.Close()
	<-server.Done()
	// Output: Lima
}
