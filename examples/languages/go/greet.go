// Greets whoever the event names: the event is on standard input, the answer on
// standard output, and what is written to standard error becomes the log.
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"strings"
)

func main() {
	event, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	name := strings.TrimSpace(string(event))
	log.Printf("%s greeting %q", os.Getenv("FC_REQUEST_ID"), name)
	if name == "" {
		log.Fatal("there is nobody to greet")
	}
	fmt.Printf("Hello, %s!", name)
}
