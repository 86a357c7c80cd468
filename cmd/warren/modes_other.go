//go:build !unix

package main

// hasModes tells whether permissions of files say who may use them.
const hasModes = false
