// Package main prints what a URL answers, for tests inside of pods. A static busybox cannot do it: its
// wget needs the C library's resolver, which a static program does not have, and crashes.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// Longer than a name's lookup takes after a lost packet, which is 5 s.
const patience = 10 * time.Second

// What a test looks at is small.
const bytesMax = 16 << 20

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: fetch URL")
		os.Exit(2)
	}
	if err := fetch(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func fetch(url string) error {
	client := http.Client{Timeout: patience}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, io.LimitReader(response.Body, bytesMax)); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", response.Status)
	}
	return nil
}
