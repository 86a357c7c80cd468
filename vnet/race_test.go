//go:build race

package vnet

// raceEnabled: sync.Pool drops at random under the race detector.
const raceEnabled = true
