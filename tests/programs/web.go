// SPDX-License-Identifier: Apache-2.0

// Go's net/http, server and client: web serve PORT | web talk PORT ROUNDS
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net/http"
	"os"
	"strconv"
)

const host = "127.0.0.1"

func echo(answer http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		log.Fatal(err)
	}
	answer.Header().Set("X-Digest", fmt.Sprintf("%x", sha256.Sum256(body)))
	if _, err := answer.Write(body); err != nil {
		log.Fatal(err)
	}
}

func ask(url string, size int) error {
	body := make([]byte, size)
	rand.Read(body)
	answer, err := http.Post(url, "application/octet-stream", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	back, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	digest := fmt.Sprintf("%x", sha256.Sum256(body))
	if answer.Header.Get("X-Digest") != digest || !bytes.Equal(back, body) {
		return fmt.Errorf("%d bytes: others arrived or came back", size)
	}
	return nil
}

func talk(port string, rounds int) {
	failed := make(chan error)
	const clients = 4
	for i := 0; i < clients; i++ {
		go func() {
			var err error
			for round := 0; round < rounds && err == nil; round++ {
				for _, size := range []int{1, 100, 4096, 65537, 1 << 20} {
					if err == nil {
						err = ask("http://"+host+":"+port+"/", size)
					}
				}
			}
			failed <- err
		}()
	}
	for i := 0; i < clients; i++ {
		if err := <-failed; err != nil {
			log.Fatal(err)
		}
	}
}

func main() {
	if os.Args[1] == "serve" {
		http.HandleFunc("/", echo)
		log.Fatal(http.ListenAndServe(host+":"+os.Args[2], nil))
	}
	rounds, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	talk(os.Args[2], rounds)
}
