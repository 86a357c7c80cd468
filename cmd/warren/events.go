package main

import (
	"fmt"
	"net/netip"
)

// nodeEvent prints an event of a node with the address and id that it has.
func (a *app) nodeEvent(name string, at netip.AddrPort, id string) {
	text := fmt.Sprintf("%s %v", name, at)
	if id != "" {
		text += " id " + id
	}
	a.event(struct {
		Event string `json:"event"`
		addrJSON
		ID string `json:"id,omitempty"`
	}{name, addr(at), id}, "%s", text)
}

// plainEvent prints an event that has nothing but a name.
func (a *app) plainEvent(name string) {
	a.event(struct {
		Event string `json:"event"`
	}{name}, "%s", name)
}
