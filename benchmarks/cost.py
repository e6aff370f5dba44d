"""What segmenting many images costs in hours, disk and money, from measured unit costs.

    python benchmarks/cost.py --images 10000000 --cards 8 --per-second 200 --price 2.5

No figure here is measured by this program: give images per second and card, bytes and prices as you measured or pay
them. It prints a table and names the bottleneck.
"""

import argparse


def main() -> None:
    """Multiply and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=float, default=1e7)
    parser.add_argument("--cards", type=int, default=8)
    parser.add_argument("--cores", type=int, default=16, help="processor cores per card")
    parser.add_argument("--per-second", type=float, required=True, help="images per second of the network on a card")
    parser.add_argument("--core-ms", type=float, default=31.0, help="CPU ms per image beside the network")
    parser.add_argument("--input-kib", type=float, default=160.0, help="of an image file")
    parser.add_argument("--output-kib", type=float, default=4.0, help="of all outputs of an image")
    parser.add_argument("--price", type=float, default=0.0, help="of a card with its cores, per hour")
    given = parser.parse_args()
    rates = {
        "network": given.cards * given.per_second,
        "processor cores (decoding, prediction, files)": given.cards * given.cores / given.core_ms * 1000,
    }
    bottleneck = min(rates, key=lambda name: rates[name])
    hours = given.images / rates[bottleneck] / 3600
    print(f"| | {given.images:,.0f} images on {given.cards} cards |\n|---|---:|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:,.0f} images/s, {given.images / rate / 3600:.1f} h |")
    print(f"| read | {given.images * given.input_kib / 2**30:.2f} TiB |")
    print(f"| written | {given.images * given.output_kib / 2**30:.2f} TiB |")
    print(f"| money | {hours * given.cards * given.price:,.0f} |")
    print(f"\nbottleneck: {bottleneck}")


if __name__ == "__main__":
    main()
