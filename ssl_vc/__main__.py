"""`python -m ssl_vc` is `ssl-vc`."""

from ssl_vc.cli import main

if __name__ == "__main__":
    main()
