// A Faroe server on a sidecar, as people run one.
//
//	faroetest actions https://localhost:8443/ ca.pem client.pem client.key EMAIL_ADDRESS
//	faroetest flows https://localhost:8443/ ca.pem client.pem client.key
//
// `actions` calls every action with the client of a Faroe server. `flows` takes people through
// everything a whole Faroe server does for them, and asks whoever started it, over standard input and
// output, what the store holds after it. Either says what is wrong and ends with 1.
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/faroedev/faroe"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 6 {
		log.Fatal("usage: faroetest actions|flows URL CA CERTIFICATE KEY [EMAIL_ADDRESS]")
	}
	sidecar, err := newUserServer(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	if err != nil {
		log.Fatal(err)
	}
	switch {
	case os.Args[1] == "actions" && len(os.Args) == 7:
		response, err := sidecar.client.Get(os.Args[2])
		if err != nil {
			log.Fatal(err)
		}
		response.Body.Close()
		fmt.Println("spoken:", response.Proto)
		if err := callEveryAction(faroe.NewUserServerClient(sidecar), os.Args[6]); err != nil {
			log.Fatal(err)
		}
		fmt.Println("every action was answered as a Faroe server expects")
	case os.Args[1] == "flows" && len(os.Args) == 6:
		runFlows(sidecar)
	default:
		log.Fatal("neither `actions` with an email address nor `flows` without one")
	}
}
