//go:build race

package udp

// raceEnabled: sync.Pool drops at random under the race detector.
const raceEnabled = true
