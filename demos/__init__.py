"""The Gradio demo: widgets over the public names of ssl_vc."""
